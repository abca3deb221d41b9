/** What people get wrong, through the real command line: exit code 2, one line that says where, nothing on stdout. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { main } from '../cli/main.ts';
import { root } from './scan.ts';

const TINY = join(root, 'traces/attention/fixtures/tiny.safetensors');
/** The config.json of the model that the fixture was recorded from. */
const TINY_CONFIG = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 128,
  max_position_embeddings: 512,
  num_attention_heads: 4,
  num_hidden_layers: 4,
  num_key_value_heads: 2,
  rope_theta: 10000,
  tie_word_embeddings: true,
  vocab_size: 259,
};

/** Policies of a user's own that ask for what there is not, and code what they cannot decode. */
const ownPolicy = (body: string): string =>
  `import * as z from 'zod';
import { policyDefaults, SimError } from 'kvtier';
const codec = { name: 'c', kBytesPerToken: (d) => d, vBytesPerToken: (d) => d, scaleBytes: () => 0, decodeFlopsPerToken: () => 0 };
const recode = { onPrefill: ({ heads }) => heads.forEach(({ cache }) => cache.recode(0, 8, 1)) };
export const policy = { name: 'mine', title: 'Mine', family: 'eviction', source: 'a test', requires: ['k', 'q'],
  config: z.object({ subspaces: z.int().default(3) }), ${body} };
`;
const OWN_POLICIES: Readonly<Record<string, string>> = {
  'gated.js': "requires: ['k', 'gate'], create: () => ({ ...policyDefaults, layer: () => ({}) })",
  'undivided.js': `create: ({ subspaces }, { headDim }) => {
    if (headDim % subspaces !== 0) throw new SimError('invalid-input', \`subspaces: expected a divisor of the head dimension \${headDim}, got \${subspaces}\`);
    return { ...policyDefaults, layer: () => ({}) };
  }`,
  'no-encoder.js': 'create: () => ({ ...policyDefaults, codecs: [codec], layer: () => recode })',
  'no-decoder.js':
    'create: () => ({ ...policyDefaults, codecs: [{ ...codec, encode: () => ({ tokens: 8, decodeKeys() {} }) }], layer: () => recode })',
};

let folder = '';
let stdout = '';
let stderr = '';

const file = (name: string, content: string | Uint8Array): void => writeFileSync(join(folder, name), content);

/** A copy of a shipped profile with one number replaced. */
const profileWith = (
  edit: (profile: Record<string, Record<string, Record<string, { value: number }>>>) => void,
): string => {
  const profile = JSON.parse(readFileSync(join(root, 'sim/hardware/profiles/h100-sxm.json'), 'utf8'));
  edit(profile);
  return JSON.stringify(profile);
};

/** A trace as it would be without one of its fields. */
const withoutField = (trace: Buffer, field: string): Uint8Array => {
  const start = 8 + Number(trace.readBigUInt64LE(0));
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(
    trace.subarray(8, start).toString(),
  );
  const { __metadata__: metadata, ...tensors } = header as unknown as { __metadata__: { kvtier: string } };
  const described = JSON.parse(metadata.kvtier);
  described.fields = described.fields.filter((name: string) => name !== field);
  const kept: Record<string, unknown> = { __metadata__: { kvtier: JSON.stringify(described) } };
  const data: Uint8Array[] = [];
  let offset = 0;
  for (const [name, tensor] of Object.entries(tensors as typeof header)) {
    if (name.startsWith(`${field}.`)) continue;
    const [from, to] = tensor.data_offsets;
    kept[name] = { ...tensor, data_offsets: [offset, offset + to - from] };
    data.push(trace.subarray(start + from, start + to));
    offset += to - from;
  }
  const text = JSON.stringify(kept);
  const bytes = Buffer.from(text.padEnd(text.length + ((8 - (Buffer.byteLength(text) % 8)) % 8)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([length, bytes, ...data]);
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-bad-input-'));
  const tiny = readFileSync(TINY);
  file('cut.safetensors', tiny.subarray(0, tiny.length - 100));
  file('header.safetensors', new Uint8Array([255, 255, 255, 255, 255, 255, 255, 127, 1, 2, 3]));
  file('text.safetensors', 'not a trace at all');
  file('no-queries.safetensors', withoutField(tiny, 'q'));
  for (const [name, body] of Object.entries(OWN_POLICIES)) file(name, ownPolicy(body));
  file('tiny.json', JSON.stringify(TINY_CONFIG));
  file('empty.json', '{}');
  file('broken.json', '{ "layers": ');
  file(
    'negative.json',
    profileWith((profile) => {
      profile.accelerator.hbm.peakBytesPerNs.value = -1;
    }),
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

beforeEach(() => {
  stdout = '';
  stderr = '';
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
  process.exitCode = 0;
});

/** Parameters that contradict each other, the model (head dimension 16) or the trace. */
const contradictions: readonly (readonly [string, RegExp])[] = [
  [
    'snapkv:budgetTokens=16;windowTokens=32',
    /snapkv, parameter budgetTokens: expected at least windowTokens/,
  ],
  ['adakv:budgetTokens=16;windowTokens=32', /adakv, parameter budgetTokens/],
  ['pyramidkv:budgetTokens=4', /pyramidkv, parameter budgetTokens/],
  ['judge-q:budgetTokens=16', /judge-q, parameter budgetTokens/],
  [
    'lookaheadkv:budgetTokens=33;sinkTokens=4;windowTokens=32',
    /lookaheadkv, parameter budgetTokens.*sinkTokens/,
  ],
  ['lookaheadkv:score=trace', /lookaheadkv, parameter score: trace needs the field utility.*oracle/],
  ['sage-kv:budgetTokens=64', /sage-kv, parameter budgetTokens: .*sinkTokens \+ recentTokens/],
  ['g-kv:budgetTokens=16', /g-kv, parameter budgetTokens: expected more than windowTokens/],
  ['scissorhands:budgetTokens=5', /scissorhands: expected a budget above recentTokens 10/],
  ['arkvale:topkPages=1', /arkvale, parameter topkPages: expected at least sinkPages \+ windowPages/],
  ['wg-kv:questTokens=100', /wg-kv, parameter questTokens: expected at least windowTokens/],
  ['wg-kv:questTokens=300;capTokens=99', /wg-kv, parameter capTokens: expected none beside questTokens/],
  ['judge-q:softTokens=9e15', /judge-q, parameter softTokens: expected at most 2147483647, got 9/],
  ['kivi:residualTokens=100', /kivi, parameter residualTokens/],
  ['quantized:codec=int5', /quantized, parameter codec/],
  ['duoattention:streamingRatio=1.5', /duoattention, parameter streamingRatio/],
  ['duoattention:heads=[[1,0]]', /duoattention, parameter heads: expected \d+ rows/],
  ['stack(snapkv:budgetTokens=16,quest)', /snapkv, parameter budgetTokens/],
  ['budget(full)', /budget\(full\): full takes no token budget/],
];

const cases: readonly [string, string, RegExp][] = [
  ['a missing trace', 'compare --trace @none.safetensors', /none\.safetensors/],
  ['a truncated trace', 'compare --trace @cut.safetensors', /cut\.safetensors/],
  ['a lying header length', 'compare --trace @header.safetensors', /header\.safetensors.*header/],
  ['a file that is no trace', 'compare --trace @text.safetensors', /text\.safetensors/],
  ['an unknown policy', `compare --trace ${TINY} --policies full,qest`, /policy 'qest'.*quest/],
  ['an unknown parameter', `compare --trace ${TINY} --set quest.pageTokns=8`, /pageTokns/],
  ['a parameter of the wrong kind', `compare --trace ${TINY} --set quest.pageTokens=many`, /pageTokens/],
  ['a parameter out of range', `compare --trace ${TINY} --set quest.pageTokens=0`, /pageTokens/],
  ['a trace without queries', 'compare --trace @no-queries.safetensors', /expected k and q.*--synthetic/],
  [
    'a trace without what a policy needs',
    `compare --trace ${TINY} --policies @gated.js`,
    /policy mine requires k, gate, and the trace lacks gate; it is enough for [a-z]/,
  ],
  [
    'a head dimension that does not divide',
    `compare --trace ${TINY} --policies @undivided.js`,
    /policy mine: subspaces: expected a divisor of the head dimension 16, got 3/,
  ],
  [
    'a codec without an encoder',
    `compare --trace ${TINY} --policies @no-encoder.js`,
    /mine: codec c: .*encode/,
  ],
  [
    'a codec without a decoder',
    `compare --trace ${TINY} --policies @no-decoder.js`,
    /codec c: .*decodeValues/,
  ],
  [
    'two policies that move KV',
    `compare --trace ${TINY} --policies stack(ttkv,pariskv)`,
    /stack\(ttkv,pariskv\): ttkv and pariskv both say how KV crosses the link/,
  ],
  [
    'a combinator with too few policies',
    `compare --trace ${TINY} --policies stack(quest)`,
    /2 to 8 policies.*got 1/,
  ],
  ...contradictions.map(([params, message]): [string, string, RegExp] => [
    params,
    `compare --trace ${TINY} --policies ${params}`,
    message,
  ]),
  ['unknown hardware', `compare --trace ${TINY} --hardware h100-sxn`, /h100-sxn.*h100-sxm/],
  [
    'a negative bandwidth',
    `compare --trace ${TINY} --hardware @negative.json`,
    /negative\.json.*accelerator\.hbm\.peakBytesPerNs/,
  ],
  ['a profile that is none', `compare --trace ${TINY} --hardware @empty.json`, /empty\.json/],
  ['a profile that is no JSON', `compare --trace ${TINY} --hardware @broken.json`, /broken\.json/],
  [
    'a folder for a profile',
    `compare --trace ${TINY} --hardware @`,
    /--hardware \S+: expected a file, found a directory/,
  ],
  ['an unknown model', `compare --trace ${TINY} --model llama-9`, /llama-9/],
  ['a model config that is none', `compare --trace ${TINY} --model @empty.json`, /empty\.json/],
  ['a config that is generated from', 'compare --synthetic @broken.json', /--synthetic \S+broken\.json/],
  [
    'a model of sliding layers alone',
    'compare --synthetic mistral-7b-v0.1',
    /model mistral-7b-v0\.1: every layer slides \(4096 tokens\): expected a layer with full attention/,
  ],
  [
    'a budget beyond any trace',
    `compare --trace ${TINY} --policies snapkv --budget 1e12`,
    /--budget: .*2147483647/,
  ],
  ['an unknown stack', `compare --trace ${TINY} --stack nothing`, /nothing/],
  ['a context longer than the trace', `compare --trace ${TINY} --model @tiny.json --context 4K`, /context/],
  ['no steps', `compare --trace ${TINY} --steps 0`, /--steps/],
  ['an empty list of policies', `compare --trace ${TINY} --policies ,`, /--policies/],
  [
    'a task of a recorded trace',
    `compare --trace ${TINY} --task code`,
    /--task code: needs a generated trace/,
  ],
  [
    'a task that no preset knows',
    'compare --synthetic smollm2-135m --task poetry',
    /task: expected one of .*needle.*found "poetry"/,
  ],
  [
    'both sources of attention',
    `compare --trace ${TINY} --synthetic llama-3.1-8b`,
    /--trace.*--synthetic|--synthetic.*--trace/,
  ],
  ['an operation that does not exist', 'predict --op teleport', /--op.*copy/],
  ['an operation without its size', 'predict --op copy --direction h2d', /--bytes/],
  [
    'a way into HBM for what lies there',
    'predict --op gather --tier hbm --mode uva --rows 1 --row-bytes 64',
    /--mode uva: has a meaning only with --tier dram/,
  ],
  ['a negative size', 'predict --op copy --direction h2d --bytes -5', /--bytes/],
  ['shares that do not add up', 'place --cache 0.5,0.6,0', /--cache .*add up to 1/],
  ['a model that no tier holds', 'place --hardware t4 --weights 1,0,0', /no placement fits t4/],
  [
    'weights that no kernel multiplies',
    'validate --dense --synthetic deepseek-v3 --contexts 64 --steps 1 --prepare @never.json.gz',
    /--dense: .*those of deepseek-v3 take 1/,
  ],
  ['a missing request trace', 'mrc @none.jsonl', /none\.jsonl/],
  ['an unknown eviction rule', 'mrc --eviction lruu', /lruu.*lru/],
];

describe('bad input', () => {
  it.each(cases)('%s', async (_what, line, expected) => {
    const args = line.split(' ').map((arg) => arg.replace(/^@/, `${folder}/`));
    const before = readdirSync(folder);
    await main([...args, '--json']);
    expect(stderr).toMatch(expected);
    expect(stderr).toMatch(/^kvtier: [^\n]+\n$/);
    expect(stderr).not.toMatch(/internal error|\bat .*:\d+:\d+/);
    expect(process.exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(readdirSync(folder)).toEqual(before);
  });
});
