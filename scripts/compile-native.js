// Compiles and links native code: what changed since the last time, in parallel, one build of a folder at a time.
// A job is { compiler, version, file, flags, object }. Failures throw a BuildError of one line.
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';

/** `message` is one line; `output` is what the compiler said. */
export class BuildError extends Error {
  constructor(message, output = '') {
    super(message);
    this.output = output;
  }
}

/** Files that an object was made from, out of the compiler's list for make. */
const sourcesOf = (object) =>
  readFileSync(`${object}.d`, 'utf8')
    .replace(/\\\n/g, ' ')
    .replace(/^[^:]*:/, '')
    .split(/\s+/)
    .filter((file) => file !== '');

/** What an object was made by and from: compiler, flags and the content of every file, the system's headers apart. */
const keyOf = ({ version, flags, file, object }) => {
  const hash = createHash('sha256').update(JSON.stringify([version, flags, file]));
  for (const source of sourcesOf(object)) if (!source.startsWith('/usr/')) hash.update(readFileSync(source));
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
    const child = spawn(program, parameters);
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
  job.warnings = output.trim();
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
    const reason = failure.output.split('\n').find((line) => /error/i.test(line)) ?? 'the compiler failed';
    throw new BuildError(`${basename(failure.job.file)} does not compile: ${reason.trim()}`, failure.output);
  }
  return stale.length;
};

const link = async (output, jobs, compiler, flags) => {
  const temporary = `${output}.${process.pid}`;
  const parameters = [...flags, '-shared', '-o', temporary, ...jobs.map(({ object }) => object)];
  const linked = await run(compiler.program, parameters);
  if (!linked.ok) {
    rmSync(temporary, { force: true });
    const line = linked.output.trim().split('\n').at(-1);
    throw new BuildError(`${basename(output)} does not link: ${line}`, linked.output);
  }
  renameSync(temporary, output);
};

const digestOf = (text) => createHash('sha256').update(text).digest('hex');

/** What a library is: its own content, and the objects that it was made of. */
const recordOf = (output, jobs) =>
  [output, ...jobs.map(({ object }) => object)]
    .map((file) => `${file} ${digestOf(readFileSync(file))}`)
    .join('\n');

const upToDate = (output, jobs) => {
  const record = `${output}.objects`;
  return existsSync(output) && existsSync(record) && readFileSync(record, 'utf8') === recordOf(output, jobs);
};

/** Makes the library `output` of the jobs' objects where it is not up to date; resolves to how many were compiled. */
export const make = async (output, jobs, compiler, flags) => {
  const compiled = await compile(jobs);
  if (compiled === 0 && upToDate(output, jobs)) return 0;
  await link(output, jobs, compiler, flags);
  writeFileSync(`${output}.objects`, recordOf(output, jobs));
  return compiled;
};

const alive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return error.code === 'EPERM';
  }
};

const ownerOf = (path) => {
  try {
    return Number(readFileSync(path, 'utf8'));
  } catch {
    return 0; // just released
  }
};

const LONGEST_WAIT_MS = 600_000;

/** One build in a folder at a time; a second waits and then finds most of its work done. */
export const lock = async (folder) => {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'lock');
  for (const start = Date.now(); Date.now() - start < LONGEST_WAIT_MS; ) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      process.on('exit', () => rmSync(path, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    const owner = ownerOf(path);
    if (owner > 0 && !alive(owner)) rmSync(path, { force: true });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new BuildError(`another build holds ${path}; remove it if there is none`);
};
