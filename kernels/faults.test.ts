/** Faults of the CPU backend, caused: each is one line with a code, before anything ran, and the backend goes on. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { describeNative, missing, openCpu } from '../test/native.ts';
import { ADDON_FILE, findBinary } from './addon.ts';
import type { Backend } from './backend.ts';
import { type Call, ROW_MODES } from './calls.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvtier-faults-'));
const backends: readonly Backend[] = missing === null ? [await openCpu({ file: join(folder, 'nvme') })] : [];
afterAll(() => {
  for (const backend of backends) backend.close();
  rmSync(folder, { recursive: true, force: true });
});

const copy = (source: number, target: number, change: Partial<Call> = {}): Call => ({
  kernel: 'copy',
  stream: 'compute',
  after: [],
  refs: { source: { buffer: source, offset: 0 }, target: { buffer: target, offset: 0 } },
  ints: { count: 1, bytes: 4096, sourceStride: 4096, targetStride: 4096, mode: 0 },
  ...change,
});

/** Two buffers of 4096 bytes, the second poisoned, and whether it still is. */
const pair = async (backend: Backend) => {
  const source = backend.allocate('hbm', 4096);
  const target = backend.allocate('dram', 4096);
  await backend.fill(source, 0, 4096, 'zero', 0);
  await backend.fill(target, 0, 4096, 'poison', 0);
  const untouched = async () => (await backend.read(target, 0, 4096)).every((byte) => byte === 0xff);
  return { source, target, untouched };
};

describeNative('faults', () => {
  const [backend] = backends;

  it('of a list are found before any of it runs', async () => {
    const { source, target, untouched } = await pair(backend);
    const good = copy(source, target);
    const wrong: readonly [Partial<Call>, string][] = [
      [{ kernel: 'none' }, 'no kernel none'],
      [{ after: [1] }, 'copy: call 1 is after call 1, expected an earlier one'],
      [{ ints: { ...good.ints, count: 1.5 } }, 'copy: count is 1.5, expected an integer'],
      [{ ints: { ...good.ints, speed: 1 } }, 'copy: no argument speed'],
      [{ refs: { source: good.refs.source } }, 'copy: buffer target is missing'],
      [{ refs: { ...good.refs, target: { buffer: 999, offset: 0 } } }, 'copy: target is no buffer 999'],
      [{ ints: { ...good.ints, bytes: 4097 } }, 'copy: source is bytes 0 to 4097 of buffer'],
      [{ refs: { ...good.refs, target: { buffer: target, offset: -1 } } }, 'copy: target is bytes -1 to'],
    ];
    for (const [change, message] of wrong) {
      const run = backend.run([good, copy(source, target, change)]);
      await expect(run).rejects.toMatchObject({ code: 'invalid', message: expect.stringContaining(message) });
      expect(await untouched()).toBe(true);
    }
    await backend.run([good]);
    expect(await untouched()).toBe(false);
  });

  it('of one call end the list, with the first reason, on any stream', async () => {
    const { source, target } = await pair(backend);
    const index = backend.allocate('dram', 8);
    const staging = backend.allocate('dram', 2048);
    await backend.write(index, 0, Uint32Array.from([0, 7]));
    const gather = (mode: number): Call => ({
      ...copy(source, target),
      kernel: 'gather',
      stream: 'h2d',
      refs: {
        ...copy(source, target).refs,
        index: { buffer: index, offset: 0 },
        staging: { buffer: staging, offset: 0 },
      },
      ints: { rows: 2, rowBytes: 1024, sourceStride: 1024, targetStride: 1024, mode, units: 0 },
    });
    for (const mode of [0, ROW_MODES.indexOf('staged')])
      await expect(
        backend.run([copy(source, target), gather(mode), copy(source, target, { after: [1] })]),
      ).rejects.toThrow('gather: row 7 of the source ends past its buffer');
    await backend.run([copy(source, target)]);
  });

  it('no memory, no space, no folder', async () => {
    const petabyte = 2 ** 50;
    const reason = (code: string, text: RegExp) =>
      expect.objectContaining({ code, message: expect.stringMatching(text) });
    expect(() => backend.allocate('dram', petabyte)).toThrow(
      reason('out-of-host-memory', /^no memory for a buffer of \d+ bytes; \d+ bytes are available$/),
    );
    expect(() => backend.allocate('nvme', petabyte)).toThrow(
      reason('io', /: no space for \d+ bytes, \d+ are free$/),
    );
    expect(() => backend.allocate('hbm', 0)).toThrow(
      'allocate: bytes is 0, expected an integer of 1 or more',
    );
    const lost = await openCpu({ file: join(folder, 'missing', 'nvme') });
    expect(() => lost.allocate('nvme', 4096)).toThrow(reason('io', /No such file or directory$/));
    lost.close();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('a file where memory is needed', async () => {
    const file = backend.allocate('nvme', 4096);
    const refs = { partials: { buffer: file, offset: 0 }, out: { buffer: file, offset: 0 } };
    const merge = copy(file, file, { kernel: 'merge', refs, ints: { rows: 1, parts: 1, headDim: 8 } });
    await expect(backend.run([merge])).rejects.toThrow(`merge: buffer ${file} is a file (nvme)`);
  });

  it('use after free, and after close', async () => {
    const other = await openCpu();
    const { source, target } = await pair(other);
    const run = other.run([copy(source, target)]);
    await run;
    other.free(source);
    expect(() => other.free(source)).toThrow(`free: no buffer ${source}`);
    await expect(other.run([copy(source, target)])).rejects.toThrow(`copy: source is no buffer ${source}`);
    other.close();
    expect(() => other.allocate('dram', 1)).toThrow('the backend is closed');
    await expect(other.sense()).rejects.toMatchObject({ code: 'invalid', message: 'the backend is closed' });
  });

  it('a kernel that touches foreign memory, on any thread, or leaves a fenced buffer', () => {
    const program = join(folder, 'touch');
    const source = `
      #include <cstdio>
      #include <stdexcept>
      #include "${join(import.meta.dirname, 'cpu/faults.h')}"
      #include "${join(import.meta.dirname, 'cpu/machine.h')}"
      kvt_status kvt::fail(kvt_status status, const char*, ...) { return status; }
      kvt::File::~File() {}
      int main() {
        kvt::install_fault_handler();
        const auto threads = kvt::make_threads(3);
        volatile char* nowhere = reinterpret_cast<volatile char*>(64);
        for (int64_t wild = 0; wild < 40; wild += 13) {
          try {
            kvt::run_guarded([&] {
              threads->run(40, [&](int64_t from, int64_t to) {
                for (; from < to; from++) if (from == wild) *nowhere = 1;
              });
            });
          } catch (const std::runtime_error& error) { std::puts(error.what()); }
        }
        kvt::Buffer fenced;
        if (kvt::allocate_fenced(100, &fenced) != KVT_OK) return 1;
        for (int at : {0, 99, 112, -4096}) {
          try {
            kvt::run_guarded([&] { static_cast<volatile char*>(fenced.memory)[at] = 1; });
            std::printf("%d is inside\\n", at);
          } catch (const std::runtime_error& error) { std::printf("%d is outside\\n", at); }
        }
        std::fflush(stdout);
        *nowhere = 1;
      }`;
    const objects = ['faults', 'threads', 'memory', 'common'].map((name) =>
      join(import.meta.dirname, `build/cpu/${name}.o`),
    );
    const parameters = ['-std=c++20', '-x', 'c++', '-', '-x', 'none', ...objects, '-pthread', '-o', program];
    const built = spawnSync(process.env.CXX ?? 'c++', parameters, { input: source, encoding: 'utf8' });
    expect(built.stderr).toBe('');
    const { stdout, signal } = spawnSync(program, { encoding: 'utf8' });
    const line = 'access to memory outside every buffer (at 0x40)';
    const fenced = ['0 is inside', '99 is inside', '112 is outside', '-4096 is outside'];
    expect(stdout.trimEnd().split('\n')).toEqual([line, line, line, line, ...fenced]);
    // Outside of kernels a fault is what it was.
    expect(signal).toBe('SIGSEGV');
  });

  it('workers and a process that end in the middle of work', () => {
    // Workers call without a pause, so that each is torn down within a call: calls with and without promises, and one
    // that fails.
    const script = `
      const { Worker, isMainThread } = require('node:worker_threads');
      const work = async () => {
        const addon = require(${JSON.stringify(findBinary(ADDON_FILE))});
        addon.initialize(Error);
        const handle = await addon.open('', '{"threads":2}');
        const buffer = addon.allocate(handle, 1, 1 << 20);
        for (let i = 0; ; i++) {
          const filled = addon.fill(handle, buffer, 0, 4096, 1, i);
          if (isMainThread && i === 3) process.exit(0);
          for (let call = 0; call < 30; call++) {
            addon.fill(handle, buffer, 0, 64, 1, i);
            addon.sense(handle);
            addon.free(handle, addon.allocate(handle, 1, 64));
            try { addon.allocate(handle, 1, -1); } catch {}
          }
          await filled;
        }
      };
      if (isMainThread) {
        const ended = [];
        for (let ms = 50; ms < 250; ms += 8) {
          const worker = new Worker(process.execArgv.at(-1), { eval: true, execArgv: [] });
          ended.push(new Promise((resolve) => setTimeout(() => resolve(worker.terminate()), ms)));
        }
        Promise.all(ended).then(work);
      } else work();`;
    for (let round = 0; round < 4; round++) {
      const { status, stderr } = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' });
      expect(stderr).toBe('');
      expect(status).toBe(0);
    }
  });

  it('a process killed in the middle of a run leaves no file behind', async () => {
    const script = `
      const addon = require(${JSON.stringify(findBinary(ADDON_FILE))});
      addon.initialize(Error);
      addon.open('', JSON.stringify({ file: ${JSON.stringify(join(folder, 'killed'))} })).then(async (handle) => {
        const buffer = addon.allocate(handle, 3, 1 << 24);
        console.log('ready');
        for (;;) await addon.fill(handle, buffer, 0, 1 << 24, 3, 1);
      });`;
    const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
    await new Promise((resolve) => child.stdout.once('data', resolve));
    const ended = new Promise((resolve) => child.once('close', (_, signal) => resolve(signal)));
    child.kill('SIGKILL');
    expect(await ended).toBe('SIGKILL');
    expect(readdirSync(folder).filter((name) => name.startsWith('killed'))).toEqual([]);
  });
});
