// Builds the native kernels into kernels/build/: the addon with the CPU backend (a C++20 compiler and Node's headers),
// and with --cuda the CUDA backend (nvcc). Needs no network, no Python and no make; compiles what changed, in parallel.
//   --soft      say what is missing in one line and exit 0: npm runs it so while installing
//   --cuda      also the CUDA library; without --soft this is said when nvcc is missing, but is no failure
//   --all       every instruction set level, for binaries that move to other machines (otherwise: baseline and this one's)
//   --arch sm_90   only this GPU architecture (otherwise sm_80, sm_89, sm_90, sm_100 and PTX)
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const kernels = join(root, 'kernels');
const build = join(kernels, 'build');
const args = process.argv.slice(2);
const soft = args.includes('--soft');

/** Ends with one line; while installing that is no failure, because everything but real kernels works without. */
const stop = (line) => {
  process.stderr.write(`kernels: ${line}\n`);
  process.exit(soft ? 0 : 1);
};

const works = (program) => {
  const done = spawnSync(program, ['--version'], { encoding: 'utf8' });
  return done.error === undefined && done.status === 0 ? done.stdout : null;
};

const firstWorking = (programs) => {
  for (const program of programs) {
    const version = program ? works(program) : null;
    if (version !== null) return { program, version };
  }
  return null;
};

const packageFolder = (name) => {
  try {
    return dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
  } catch {
    return null;
  }
};

/** Folder of node_api.h: beside the node binary, where distributions put it, or where node-gyp keeps what it fetched. */
const headers = () =>
  [
    join(dirname(dirname(process.execPath)), 'include', 'node'),
    '/usr/include/node',
    '/usr/include/nodejs/src',
    ...[join(homedir(), '.cache', 'node-gyp'), join(homedir(), 'Library', 'Caches', 'node-gyp')].map(
      (cache) => join(cache, process.versions.node, 'include', 'node'),
    ),
  ].find((folder) => existsSync(join(folder, 'node_api.h')));

const filesOf = (folder, extension) =>
  readdirSync(join(kernels, folder))
    .filter((file) => file.endsWith(extension))
    .sort()
    .map((file) => join(kernels, folder, file));

/** Names of calls, from the generated header: a file cpu/NAME.cpp with such a name holds that kernel. */
const callNames = () =>
  new Set(
    [...readFileSync(join(kernels, 'calls.generated.h'), 'utf8').matchAll(/X\(KVT_\w+, "([^"]+)"\)/g)].map(
      ([, name]) => name,
    ),
  );

// Level = position; kernel.h says what each holds. The machine chooses at run time.
const LEVELS = process.arch === 'x64' ? [[], ['-march=haswell'], ['-march=skylake-avx512']] : [[]];

const hostLevel = () => {
  if (process.arch !== 'x64' || process.platform !== 'linux') return LEVELS.length - 1;
  const flags = new Set(
    readFileSync('/proc/cpuinfo', 'utf8')
      .match(/^flags\s*:\s*(.*)$/m)?.[1]
      .split(' ') ?? [],
  );
  const has = (...names) => names.every((name) => flags.has(name));
  if (has('avx512f', 'avx512bw', 'avx512cd', 'avx512dq', 'avx512vl')) return 2;
  return has('avx2', 'fma', 'bmi2') ? 1 : 0;
};

const WARNINGS = ['-Wall', '-Wextra'];
// No fast-math: NaN and infinity mean something in the kernels. These two only free the compiler to use vectors.
const CPU_FLAGS = [
  '-std=c++20',
  '-O3',
  '-fPIC',
  '-fvisibility=hidden',
  '-fno-math-errno',
  '-fno-trapping-math',
  '-fopenmp-simd',
];

/** Compilations of the addon, baseline first: of functions that several objects hold the linker keeps the first. */
const cpuJobs = (compiler, include) => {
  const names = callNames();
  const isKernel = (file) => names.has(basename(file, '.cpp'));
  const levels = args.includes('--all') ? LEVELS.keys() : [...new Set([0, hostLevel()])];
  const job = (file, flags, folder) => ({
    compiler: compiler.program,
    version: compiler.version,
    file,
    flags: [...CPU_FLAGS, ...WARNINGS, ...flags],
    object: join(build, folder, `${basename(file, '.cpp')}.o`),
  });
  const cpu = filesOf('cpu', '.cpp');
  const nodeFlags = [
    '-DNAPI_VERSION=8',
    '-DNODE_ADDON_API_DISABLE_CPP_EXCEPTIONS',
    '-DNAPI_DISABLE_CPP_EXCEPTIONS',
  ];
  return [
    ...filesOf('addon', '.cpp').map((file) =>
      job(file, [...nodeFlags, ...include.flatMap((folder) => ['-isystem', folder])], 'addon'),
    ),
    ...cpu.filter((file) => !isKernel(file)).map((file) => job(file, [], 'cpu')),
    ...[...levels].flatMap((level) =>
      cpu
        .filter(isKernel)
        .map((file) => job(file, [...LEVELS[level], `-DKVT_CPU_LEVEL=${level}`], `cpu-${level}`)),
    ),
  ];
};

const cudaJobs = (compiler) => {
  const at = args.indexOf('--arch');
  const only = at >= 0 ? args[at + 1].replace(/^sm_/, '') : null;
  const architectures = only === null ? ['80', '89', '90', '100'] : [only];
  const newest = architectures.at(-1);
  const flags = [
    ...['-std=c++17', '-O3', '-lineinfo', '-Xcompiler', '-fPIC,-Wall'],
    ...architectures.flatMap((arch) => ['-gencode', `arch=compute_${arch},code=sm_${arch}`]),
    ...['-gencode', `arch=compute_${newest},code=compute_${newest}`],
  ];
  return filesOf('cuda', '.cu').map((file) => ({
    compiler: compiler.program,
    version: compiler.version,
    file,
    flags,
    object: join(build, 'cuda', `${basename(file, '.cu')}.o`),
  }));
};

/** Files that an object was made from, out of the compiler's list for make. */
const sourcesOf = (object) =>
  readFileSync(`${object}.d`, 'utf8')
    .replace(/\\\n/g, ' ')
    .replace(/^[^:]*:/, '')
    .split(/\s+/)
    .filter((file) => file !== '');

/** What an object was made by and from: compiler, flags and the content of every file of this package that went in. */
const keyOf = ({ version, flags, file, object }) => {
  const hash = createHash('sha256').update(JSON.stringify([version, flags, file]));
  for (const source of sourcesOf(object)) if (source.startsWith(kernels)) hash.update(readFileSync(source));
  return hash.digest('hex');
};

const fresh = (job) => {
  const key = `${job.object}.key`;
  if (!existsSync(job.object) || !existsSync(key) || !existsSync(`${job.object}.d`)) return false;
  try {
    return readFileSync(key, 'utf8') === keyOf(job);
  } catch {
    return false; // a header that is gone
  }
};

const run = (program, parameters) =>
  new Promise((resolve) => {
    const child = spawn(program, parameters, { cwd: kernels });
    let output = '';
    child.stdout.on('data', (data) => {
      output += data;
    });
    child.stderr.on('data', (data) => {
      output += data;
    });
    child.on('error', (error) => resolve({ ok: false, output: error.message }));
    child.on('close', (status) => resolve({ ok: status === 0, output }));
  });

const compileOne = async (job) => {
  mkdirSync(dirname(job.object), { recursive: true });
  const temporary = `${job.object}.${process.pid}`;
  const parameters = [...job.flags, '-c', job.file, '-o', temporary, '-MMD', '-MF', `${job.object}.d`];
  const { ok, output } = await run(job.compiler, parameters);
  if (!ok) {
    rmSync(temporary, { force: true });
    return output;
  }
  if (output.trim() !== '' && !soft) process.stderr.write(output);
  renameSync(temporary, job.object);
  writeFileSync(`${job.object}.key`, keyOf(job));
  return null;
};

/** Compiles what is not fresh; resolves to how many that were. Stops at the first failure. */
const compile = async (jobs) => {
  const stale = jobs.filter((job) => !fresh(job));
  const queue = [...stale];
  let failure = null;
  const worker = async () => {
    for (let job = queue.shift(); job !== undefined && failure === null; job = queue.shift()) {
      const output = await compileOne(job);
      if (output !== null) failure ??= { job, output };
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  if (failure !== null) {
    const name = failure.job.file.slice(root.length + 1);
    if (!soft) process.stderr.write(failure.output);
    const reason = failure.output.split('\n').find((line) => /error/i.test(line)) ?? 'see above';
    stop(`${name} does not compile: ${reason.trim()}`);
  }
  return stale.length;
};

const link = async (output, jobs, compiler, flags) => {
  const temporary = `${output}.${process.pid}`;
  const parameters = [...flags, '-shared', '-o', temporary, ...jobs.map(({ object }) => object)];
  const linked = await run(compiler.program, parameters);
  if (!linked.ok) {
    rmSync(temporary, { force: true });
    stop(`${basename(output)} does not link: ${linked.output.trim().split('\n').at(-1)}`);
  }
  renameSync(temporary, output);
};

/** Newer than every object, and made of exactly these. */
const upToDate = (output, jobs) => {
  const list = `${output}.objects`;
  if (!existsSync(output) || !existsSync(list)) return false;
  if (readFileSync(list, 'utf8') !== jobs.map(({ object }) => object).join('\n')) return false;
  const made = statSync(output).mtimeMs;
  return jobs.every(({ object }) => statSync(object).mtimeMs <= made);
};

const make = async (name, jobs, compiler, flags) => {
  const start = Date.now();
  const output = join(build, name);
  const compiled = await compile(jobs);
  if (compiled === 0 && upToDate(output, jobs)) return;
  await link(output, jobs, compiler, flags);
  writeFileSync(`${output}.objects`, jobs.map(({ object }) => object).join('\n'));
  if (!soft) {
    const seconds = ((Date.now() - start) / 1000).toFixed(1);
    process.stderr.write(`kernels: built kernels/build/${name}, ${compiled} files compiled, ${seconds} s\n`);
  }
};

const buildCpu = async () => {
  if (process.platform === 'win32') return stop('no CPU kernels on Windows; the TypeScript reference serves');
  const compiler = firstWorking([process.env.CXX, 'c++', 'g++', 'clang++']);
  if (compiler === null)
    return stop('no C++ compiler, so no CPU kernels (apt-get install g++, then npm run kernels)');
  const include = headers();
  if (include === undefined)
    return stop('no Node headers, so no CPU kernels (install libnode-dev or Node from its own archive)');
  const wrapper = packageFolder('node-addon-api');
  if (wrapper === null) return stop('the package node-addon-api is missing, so no CPU kernels (npm ci)');
  const strip = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-Wl,-s'];
  await make('kvtier.node', cpuJobs(compiler, [include, wrapper]), compiler, [...strip, '-pthread']);
};

const buildCuda = async () => {
  const compiler = firstWorking([process.env.NVCC, 'nvcc', '/usr/local/cuda/bin/nvcc']);
  if (compiler === null) {
    process.stderr.write('kernels: no nvcc, so no CUDA kernels (install the CUDA toolkit, 12.8 or later)\n');
    return;
  }
  await make('libkvtier-cuda.so', cudaJobs(compiler), compiler, ['-cudart', 'static']);
};

const alive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
};

/** One build of a tree at a time; a second waits and then finds most of its work done. */
const lock = async () => {
  const path = join(build, 'lock');
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      process.on('exit', () => rmSync(path, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') return stop(`${build} can't be written: ${error.message}`);
    }
    const owner = existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0;
    if (owner > 0 && !alive(owner)) rmSync(path, { force: true });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
};

try {
  mkdirSync(build, { recursive: true });
} catch (error) {
  stop(`${build} can't be made: ${error.message}`);
}
await lock();
await buildCpu();
if (args.includes('--cuda')) await buildCuda();
