/**
 * Choice of a backend: what is missing or broken is passed over with its reason, and a library that crashes, hangs or
 * was built for something else can't harm the process that asks. The libraries are made here, one fault each.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { describeNative } from '../test/native.ts';
import { ADDON_FILE, CUDA_FILE, findBinary, loadAddon } from './addon.ts';
import { load } from './load.ts';
import { probe } from './probe.ts';

const folder = mkdtempSync(join(tmpdir(), 'kvtier-load-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const garbage = join(folder, 'garbage.node');
writeFileSync(garbage, 'not a library');

const ABI = `#include "${join(import.meta.dirname, 'abi.h')}"\n`;
const REST = `
const char* kvt_message(void) { return "no GPU here"; }
void kvt_close(kvt_context*) {}
kvt_status kvt_open(const char*, kvt_context**) { return KVT_NO_DEVICE; }
kvt_status kvt_allocate(kvt_context*, int32_t, uint64_t, int32_t*) { return KVT_FAULT; }
kvt_status kvt_free(kvt_context*, int32_t) { return KVT_FAULT; }
kvt_status kvt_write(kvt_context*, int32_t, uint64_t, const void*, uint64_t) { return KVT_FAULT; }
kvt_status kvt_read(kvt_context*, int32_t, uint64_t, void*, uint64_t) { return KVT_FAULT; }
kvt_status kvt_fill(kvt_context*, int32_t, uint64_t, uint64_t, int32_t, uint64_t) { return KVT_FAULT; }
kvt_status kvt_run(kvt_context*, const kvt_call*, int32_t, const kvt_run_options*, kvt_run_times*) { return KVT_FAULT; }
kvt_status kvt_sense(kvt_context*, char*, size_t) { return KVT_FAULT; }
`;

const compile = (path: string, source: string): string => {
  const compiler = process.env.CXX ?? 'c++';
  const parameters = ['-x', 'c++', '-', '-shared', '-fPIC', '-w', '-o', path];
  const done = spawnSync(compiler, parameters, { input: source, encoding: 'utf8' });
  if (done.status !== 0) throw new Error(done.stderr);
  return path;
};

/** A library whose kvt_probe does `body`. */
const library = (name: string, body: string, { version = 'KVT_ABI_VERSION', rest = REST } = {}): string =>
  compile(
    join(folder, `${name}.so`),
    `${ABI}#include <cstdlib>\n#include <cstring>\nextern "C" {
    int32_t kvt_abi_version(void) { return ${version}; }
    const char* kvt_calls_digest(void) { return "stale"; }
    kvt_status kvt_probe(char* json, size_t) { ${body} }
    ${rest}
  }`,
  );

/** A driver that says this of itself, first in the search path of the process that probes; null is none that loads. */
const putDriver = (name: string, says: { version: number; init: number } | null): void => {
  const path = join(folder, name);
  mkdirSync(path);
  if (says === null) writeFileSync(join(path, 'libcuda.so.1'), 'not a library');
  else
    compile(
      join(path, 'libcuda.so.1'),
      `#include <cstring>\nextern "C" {
        int cuDriverGetVersion(int* version) { *version = ${says.version}; return 0; }
        int cuInit(unsigned) { return ${says.init}; }
        int unknown() { return 999; }
        int cuGetProcAddress_v2(const char* name, void** found, int, unsigned long long, int*) {
          *found = strcmp(name, "cuDriverGetVersion") == 0 ? (void*)cuDriverGetVersion
                   : strcmp(name, "cuInit") == 0           ? (void*)cuInit
                   : strcmp(name, "cuGetProcAddress") == 0 ? (void*)cuGetProcAddress_v2
                                                           : (void*)unknown;
          return 0;
        }
        int cuGetProcAddress(const char* name, void** found, int version, unsigned long long flags) {
          return cuGetProcAddress_v2(name, found, version, flags, nullptr);
        }
      }`,
    );
  vi.stubEnv('LD_LIBRARY_PATH', path);
};

describe('load', () => {
  it('falls back to the reference, and says why', async () => {
    const { backend, tried } = await load(undefined, { addon: garbage });
    expect(backend.name).toBe('reference');
    expect(tried.map(({ kind }) => kind)).toEqual(['cuda', 'cpu']);
    for (const { reason } of tried) expect(reason).toMatch(/^the addon can't be loaded: .*npm run kernels/);
  });

  it('refuses what it is asked for and can not give', async () => {
    await expect(load('cpu', { addon: garbage })).rejects.toMatchObject({ code: 'unsupported' });
    expect(() => loadAddon(null)).toThrow('the addon is not built; run `npm run kernels`');
    await expect(load(JSON.parse('"opencl"'))).rejects.toThrow(
      'backend opencl: expected one of cuda, cpu, reference',
    );
  });
});

describeNative('a CUDA library', () => {
  const reasonOf = async (cudaLibrary: string): Promise<string> => {
    const { backend, tried } = await load(undefined, { cudaLibrary });
    expect(backend.name).toBe('cpu');
    expect(tried.map(({ kind }) => kind)).toEqual(['cuda']);
    backend.close();
    return tried[0].reason;
  };

  it('that is none', async () => {
    expect(await reasonOf(join(folder, 'nowhere.so'))).toContain('No such file');
    expect(await reasonOf(garbage)).toContain('garbage.node');
  });

  it('of another version, or not whole', async () => {
    const old = library('old', 'return KVT_OK;', { version: '99' });
    expect(await reasonOf(old)).toBe(`${old} has version 99 of the ABI, expected 2; build it again`);
    const partial = library('partial', 'return KVT_OK;', { rest: '' });
    expect(await reasonOf(partial)).toBe(`${partial} lacks functions of the ABI; build it again`);
    const stale = library('stale', 'strcpy(json, "{}"); return KVT_OK;');
    expect(await reasonOf(stale)).toContain('built from other kernel calls');
  });

  it('that finds no device, crashes, ends the process', async () => {
    expect(await reasonOf(library('none', 'return KVT_NO_DEVICE;'))).toBe('no GPU here');
    const crash = library('crash', 'abort();');
    expect(await reasonOf(crash)).toBe(`the probe of ${crash} was ended by SIGABRT`);
    const exit = library('exit', '_Exit(3);');
    expect(await reasonOf(exit)).toBe(`the probe of ${exit} ended with status 3`);
  });

  it('that hangs', async () => {
    const path = library('hang', 'for (;;) {}');
    await expect(probe(findBinary(ADDON_FILE) ?? '', path, 1500)).rejects.toMatchObject({
      code: 'fault',
      message: `the probe of ${path} gave no answer within 1.5 s`,
    });
  });
});

const cudaLibrary = findBinary(CUDA_FILE);

describe.skipIf(cudaLibrary === null)('the CUDA library', () => {
  afterEach(() => vi.unstubAllEnvs());

  it('says what is the matter with the driver', async () => {
    const wrong = [
      [null, 'no-driver', /^no NVIDIA driver: libcuda\.so\.1 can't be loaded; install the driver$/],
      [
        { version: 11_080, init: 0 },
        'driver-too-old',
        /^the NVIDIA driver serves CUDA 11\.8, expected \d+\.0 or later; update the driver$/,
      ],
      [{ version: 99_000, init: 100 }, 'no-device', /^no CUDA device: no CUDA-capable device is detected$/],
    ] as const;
    for (const [says, code, message] of wrong) {
      putDriver(code, says);
      await expect(load('cuda')).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    }
  });
});
