// Builds the native kernels into kernels/build/: the addon with the CPU backend (a C++20 compiler and Node's headers),
// and with --cuda the CUDA backend (nvcc). Needs no network, no Python and no make; compiles what changed, in parallel.
//   --soft      say what is missing in one line and exit 0: npm runs it so while installing
//   --cuda      also the CUDA library; without --soft this is said when nvcc is missing, but is no failure
//   --prebuild  put what was built, for every instruction set level, into prebuilds/PLATFORM-ARCH/ as well: a package that
//               is packed then brings it along, and installing it builds nothing
//   --all       every instruction set level, for binaries that move to other machines (otherwise: baseline and this one's)
//   --arch sm_90   only this GPU architecture (otherwise sm_80, sm_89, sm_90, sm_100 and PTX)
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lock, make } from './compile-native.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const kernels = join(root, 'kernels');
const folder = join(kernels, 'build');
const args = process.argv.slice(2);
const soft = args.includes('--soft');
const prebuild = args.includes('--prebuild');
const prebuilt = join(root, 'prebuilds', `${process.platform}-${process.arch}`);

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

const filesOf = (part, extension) =>
  readdirSync(join(kernels, part))
    .filter((file) => file.endsWith(extension))
    .sort()
    .map((file) => join(kernels, part, file));

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

const hostJob = (compiler, file, flags, part) => ({
  compiler: compiler.program,
  version: compiler.version,
  file,
  flags: [...CPU_FLAGS, ...WARNINGS, ...flags],
  object: join(folder, part, `${basename(file, '.cpp')}.o`),
});

/** Files of cpu/ that are the CPU machine; the rest, kernels and what they share, is in the CUDA library as well. */
const CPU_MACHINE = new Set(['machine', 'memory', 'streams', 'processor', 'fill']);

/** Compilations of the CPU kernels, baseline first: of functions that several objects hold the linker keeps the first. */
const cpuKernelJobs = (compiler) => {
  const names = callNames();
  const isKernel = (file) => names.has(basename(file, '.cpp'));
  const levels = args.includes('--all') || prebuild ? LEVELS.keys() : [...new Set([0, hostLevel()])];
  const files = filesOf('cpu', '.cpp').filter((file) => !CPU_MACHINE.has(basename(file, '.cpp')));
  return [
    ...files.filter((file) => !isKernel(file)).map((file) => hostJob(compiler, file, [], 'cpu')),
    ...[...levels].flatMap((level) =>
      files
        .filter(isKernel)
        .map((file) =>
          hostJob(compiler, file, [...LEVELS[level], `-DKVT_CPU_LEVEL=${level}`], `cpu-${level}`),
        ),
    ),
  ];
};

const addonJobs = (compiler, include) => {
  const nodeFlags = [
    '-DNAPI_VERSION=8',
    // A worker may be torn down in the middle of a call: from then on every call into JavaScript fails. An exception
    // leaves the addon at once (an empty value would be used on), and at the top, where nothing can be thrown into
    // JavaScript any more, it is dropped.
    '-DNODE_ADDON_API_CPP_EXCEPTIONS',
    '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
    ...include.flatMap((folder) => ['-isystem', folder]),
  ];
  return [
    ...filesOf('addon', '.cpp').map((file) => hostJob(compiler, file, nodeFlags, 'addon')),
    ...[...CPU_MACHINE].map((name) => hostJob(compiler, join(kernels, 'cpu', `${name}.cpp`), [], 'cpu')),
    ...cpuKernelJobs(compiler),
  ];
};

/** GPU architectures to compile for, of those that this nvcc knows: sm_100 came with CUDA 12.8. */
const gpuArchitectures = (compiler) => {
  const at = args.indexOf('--arch');
  const wanted = at >= 0 ? [args[at + 1] ?? ''] : ['sm_80', 'sm_89', 'sm_90', 'sm_100'];
  const known = spawnSync(compiler.program, ['--list-gpu-code'], { encoding: 'utf8' }).stdout.split(/\s+/);
  const found = wanted.filter((name) => known.includes(name));
  if (found.length === 0) stop(`nvcc does not know ${wanted.join(', ')}; expected one of ${known.join(' ')}`);
  return found.map((name) => name.replace('sm_', ''));
};

const cudaJobs = (compiler) => {
  const architectures = gpuArchitectures(compiler);
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
    object: join(folder, 'cuda', `${basename(file, '.cu')}.o`),
  }));
};

const build = async (name, jobs, compiler, flags) => {
  const start = Date.now();
  const compiled = await make(join(folder, name), jobs, compiler, flags);
  const warnings = jobs.map((job) => job.warnings).filter((text) => text);
  if (!soft && warnings.length > 0) process.stderr.write(`${warnings.join('\n')}\n`);
  const seconds = ((Date.now() - start) / 1000).toFixed(1);
  if (prebuild) {
    mkdirSync(prebuilt, { recursive: true });
    copyFileSync(join(folder, name), join(prebuilt, name));
  }
  if (!soft)
    process.stderr.write(
      `kernels: kernels/build/${name} is ready, ${compiled} files compiled, ${seconds} s\n`,
    );
};

const hostCompiler = () => firstWorking([process.env.CXX, 'c++', 'g++', 'clang++']);

const buildCpu = async () => {
  if (process.platform === 'win32') return stop('no CPU kernels on Windows; the TypeScript reference serves');
  const compiler = hostCompiler();
  if (compiler === null)
    return stop('no C++ compiler, so no CPU kernels (apt-get install g++, then npm run kernels)');
  const include = headers();
  if (include === undefined)
    return stop('no Node headers, so no CPU kernels (install libnode-dev or Node from its own archive)');
  const wrapper = packageFolder('node-addon-api');
  if (wrapper === null) return stop('the package node-addon-api is missing, so no CPU kernels (npm ci)');
  const strip = process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-Wl,-s'];
  await build('kvtier.node', addonJobs(compiler, [include, wrapper]), compiler, [...strip, '-pthread']);
};

const buildCuda = async () => {
  const { NVCC, CUDA_HOME = '/usr/local/cuda' } = process.env;
  const compiler = firstWorking([NVCC, 'nvcc', join(CUDA_HOME, 'bin/nvcc')]);
  const host = hostCompiler();
  if (compiler === null || host === null) {
    process.stderr.write('kernels: no nvcc, so no CUDA kernels (install the CUDA toolkit, 12.8 or later)\n');
    return;
  }
  const jobs = [...cudaJobs(compiler), ...cpuKernelJobs(host)];
  // Without -z defs a function that is missing shows only when the library is opened.
  await build('libkvtier-cuda.so', jobs, compiler, ['-cudart', 'static', '-Xlinker', '-z,defs']);
};

if (soft && existsSync(join(prebuilt, 'kvtier.node'))) process.exit(0);
try {
  await lock(folder);
  await buildCpu();
  if (args.includes('--cuda')) await buildCuda();
} catch (error) {
  if (!soft && error.output) process.stderr.write(error.output);
  stop(error.message.split('\n')[0]);
}
