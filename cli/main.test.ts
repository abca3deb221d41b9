/** The command line as scripts see it: exit codes, one line on stderr, nothing but the document on stdout. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as z from 'zod';
import { main } from './main.ts';
import { UsageError, type Verb } from './verb.ts';

class OtherError extends Error {
  readonly code: string;
  constructor(name: string, code: string, message: string) {
    super(message);
    this.name = name;
    this.code = code;
  }
}

const thrown: Record<string, () => unknown> = {
  usage: () => new UsageError('mine.json: fabric: expected a number'),
  unknown: () => new OtherError('SimError', 'unknown-name', "unknown policy 'quset'"),
  invariant: () => new OtherError('SimError', 'invariant-broken', 'time went back'),
  trace: () => new OtherError('TraceError', 'truncated', 'a.safetensors: header: cut off'),
  schema: () => z.object({ a: z.object({ b: z.number() }) }).safeParse({ a: { b: 'x' } }).error,
  file: () => Object.assign(new Error('ENOENT: x'), { code: 'ENOENT', path: 'no/such.file' }),
  bug: () => new TypeError('cannot read properties\n of undefined'),
};

const flags = z.object({
  file: z.string().optional(),
  steps: z.number().int().positive().default(4).describe('decode steps'),
  policies: z.array(z.string()).default(['full']),
  dense: z.boolean().default(true),
  mode: z.enum(['dma', 'uva']).optional(),
  title: z.string().optional(),
  fail: z.string().optional(),
});

const probe = {
  name: 'probe',
  summary: 'a verb for these tests',
  positionals: ['file'],
  flags,
  examples: ['kvtier probe --steps 3'],
  async run(given, context) {
    if (given.fail !== undefined) throw thrown[given.fail]();
    context.print(given.title ?? 'for people');
    context.printJson(given);
    context.progress('working', 10).update(5);
  },
} satisfies Verb<typeof flags>;

vi.mock('./catalog.generated.ts', () => ({
  catalog: {
    probe: { summary: 'a verb for these tests', load: async () => probe },
    other: { summary: 'never loaded', load: () => Promise.reject(new Error('loaded')) },
  },
}));

let stdout = '';
let stderr = '';

const run = async (...args: string[]): Promise<number> => {
  stdout = '';
  stderr = '';
  process.exitCode = 0;
  await main(args);
  const code = Number(process.exitCode);
  process.exitCode = 0;
  return code;
};

beforeEach(() => {
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    stdout += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    stderr += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

describe('a verb', () => {
  it('gets its flags, positionals and defaults', async () => {
    expect(await run('probe', 'a.bin', '--policies', 'x,y', '--policies', 'z', '--no-dense', '--json')).toBe(
      0,
    );
    expect(JSON.parse(stdout)).toEqual({ file: 'a.bin', steps: 4, policies: ['x', 'y', 'z'], dense: false });
  });

  it('prints text without --json, and with it the document alone', async () => {
    await run('probe');
    expect(stdout).toBe('for people\n');
    await run('probe', '--json');
    expect(Object.keys(JSON.parse(stdout))).toEqual(['steps', 'policies', 'dense']);
    expect(stderr).toBe('');
  });

  it('shows titles from files without what a terminal would obey', async () => {
    await run('probe', '--title', 'a\u001b[31mb\tc\nd');
    expect(stdout).toBe('a\ufffd[31mb\tc\nd\n');
  });

  it('shows its flags, defaults and examples with --help, on stdout', async () => {
    expect(await run('probe', '--help')).toBe(0);
    expect(stdout).toMatch(/--steps <n>\s+decode steps \(default 4\)/);
    expect(stdout).toContain('kvtier probe --steps 3');
    expect(stdout).toContain('--no-dense');
  });
});

describe('the root', () => {
  it('lists the verbs without loading them', async () => {
    expect(await run()).toBe(0);
    expect(stdout).toMatch(/probe\s+a verb for these tests/);
    expect(stdout).toMatch(/other\s+never loaded/);
    expect(await run('--version')).toBe(0);
    expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('wrong usage', () => {
  const cases: readonly [readonly string[], RegExp][] = [
    [['prob'], /unknown verb 'prob', did you mean 'probe'\?/],
    [['xyzzyxyzzy'], /unknown verb 'xyzzyxyzzy'; expected one of probe, other/],
    [['probe', '--stpes', '3'], /unknown option '--stpes', did you mean '--steps'\?/],
    [['probe', '--steps'], /--steps: expected a value, got the flag '--json'/],
    [['probe', '--steps', 'abc'], /--steps: expected a number, got 'abc'/],
    [['probe', '--steps', '-1'], /--steps: .*>0, got -1/],
    [['probe', '--mode', 'dna'], /--mode: expected one of dma, uva, got 'dna' \(did you mean 'dma'\?\)/],
    [['probe', '--steps', '1.5'], /--steps: expected a whole number, got 1\.5/],
    [['probe', 'a', 'b'], /too many arguments/],
    [['probe', '--fail', 'usage'], /mine\.json: fabric: expected a number/],
    [['probe', '--fail', 'unknown'], /unknown policy 'quset'/],
    [['probe', '--fail', 'trace'], /a\.safetensors: header: cut off/],
    [['probe', '--fail', 'schema'], /a\.b: expected number, received string/],
    [['probe', '--fail', 'file'], /no\/such\.file: no such file or directory/],
  ];
  it.each(cases)('%j is one line and exit code 2', async (args, line) => {
    expect(await run(...args, '--json')).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^kvtier: [^\n]*\n$/);
    expect(stderr).toMatch(line);
  });
});

describe('failures', () => {
  it.each([
    ['bug', 'cannot read properties of undefined'],
    ['invariant', 'time went back'],
  ])('%s is one line and exit code 1', async (kind, message) => {
    expect(await run('probe', '--fail', kind)).toBe(1);
    expect(stderr).toBe(`kvtier: internal error: ${message}; set KVTIER_DEBUG=1 for the stack\n`);
  });

  it('show the stack when asked', async () => {
    vi.stubEnv('KVTIER_DEBUG', '1');
    await run('probe', '--fail', 'bug');
    expect(stderr).toMatch(/\n {4}at /);
  });
});
