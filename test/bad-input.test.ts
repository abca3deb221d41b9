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

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'kvtier-bad-input-'));
  const tiny = readFileSync(TINY);
  file('cut.safetensors', tiny.subarray(0, tiny.length - 100));
  file('header.safetensors', new Uint8Array([255, 255, 255, 255, 255, 255, 255, 127, 1, 2, 3]));
  file('text.safetensors', 'not a trace at all');
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

const cases: readonly [string, string, RegExp][] = [
  ['a missing trace', 'compare --trace @none.safetensors', /none\.safetensors/],
  ['a truncated trace', 'compare --trace @cut.safetensors', /cut\.safetensors/],
  ['a lying header length', 'compare --trace @header.safetensors', /header\.safetensors.*header/],
  ['a file that is no trace', 'compare --trace @text.safetensors', /text\.safetensors/],
  ['an unknown policy', `compare --trace ${TINY} --policies full,qest`, /policy 'qest'.*quest/],
  ['an unknown parameter', `compare --trace ${TINY} --set quest.pageTokns=8`, /pageTokns/],
  ['a parameter of the wrong kind', `compare --trace ${TINY} --set quest.pageTokens=many`, /pageTokens/],
  ['a parameter out of range', `compare --trace ${TINY} --set quest.pageTokens=0`, /pageTokens/],
  ['unknown hardware', `compare --trace ${TINY} --hardware h100-sxn`, /h100-sxn.*h100-sxm/],
  [
    'a negative bandwidth',
    `compare --trace ${TINY} --hardware @negative.json`,
    /negative\.json.*accelerator\.hbm\.peakBytesPerNs/,
  ],
  ['a profile that is none', `compare --trace ${TINY} --hardware @empty.json`, /empty\.json/],
  ['a profile that is no JSON', `compare --trace ${TINY} --hardware @broken.json`, /broken\.json/],
  ['an unknown model', `compare --trace ${TINY} --model llama-9`, /llama-9/],
  ['a model config that is none', `compare --trace ${TINY} --model @empty.json`, /empty\.json/],
  ['an unknown stack', `compare --trace ${TINY} --stack nothing`, /nothing/],
  ['a context longer than the trace', `compare --trace ${TINY} --model @tiny.json --context 4K`, /context/],
  ['no steps', `compare --trace ${TINY} --steps 0`, /--steps/],
  ['an empty list of policies', `compare --trace ${TINY} --policies ,`, /--policies/],
  [
    'both sources of attention',
    `compare --trace ${TINY} --synthetic llama-3.1-8b`,
    /--trace.*--synthetic|--synthetic.*--trace/,
  ],
  ['an operation that does not exist', 'predict --op teleport', /--op.*copy/],
  ['an operation without its size', 'predict --op copy --direction h2d', /--bytes/],
  ['a negative size', 'predict --op copy --direction h2d --bytes -5', /--bytes/],
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
