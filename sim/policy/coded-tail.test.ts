/** KIVI, KVQuant and plain quantisation over time: which tokens are raw, which bytes that is, against the papers. */
import { describe, expect, test } from 'vitest';
import { createRandom } from '../engine/random.ts';
import { HeadCache } from '../memory/head-cache.ts';
import { ropeOf, unrotate } from '../trace/rope.ts';
import { catalog } from './catalog.generated.ts';
import { catalog as codecs } from './codecs/catalog.generated.ts';
import { codeBeforeRope } from './coded-tail.ts';
import type { AppendView, Policy, PolicyPlugin, PrefillView, World } from './policy.ts';

const D = 128;
const world: World = {
  layers: 1,
  heads: 1,
  kvHeads: 1,
  groupSize: 1,
  headDim: D,
  kBytesPerToken: 256,
  vBytesPerToken: 256,
  promptTokens: 1000,
  maxTokens: 1400,
  fields: new Set(['k', 'v', 'q']),
  hidden: 128,
} as World;

/** One head's cache after the prompt and after each generated token. */
const live = (name: string, config: object, steps: number) => {
  const plugin = (catalog as unknown as Record<string, PolicyPlugin>)[name];
  const policy: Policy = plugin.create(plugin.config.parse(config), world);
  const forms = [
    { name: 'raw', kBytesPerToken: 256, vBytesPerToken: 256 },
    ...policy.codecs.map((codec) => ({
      name: codec.name,
      kBytesPerToken: codec.kBytesPerToken(D),
      vBytesPerToken: codec.vBytesPerToken(D),
    })),
  ];
  const cache = new HeadCache(world.maxTokens, forms);
  const hooks = policy.layer(0);
  const heads = [{ kvHead: 0, cache }];
  cache.append(world.promptTokens);
  hooks.onPrefill?.({ layer: 0, heads, length: cache.tokens } as unknown as PrefillView);
  const counts: number[][] = [];
  const count = (): void => {
    counts.push(forms.map((_, form) => cache.tokensIn('hbm', form)));
  };
  count();
  for (let step = 0; step < steps; step++) {
    cache.append(1);
    hooks.onAppend?.({ layer: 0, heads, length: cache.tokens } as unknown as AppendView);
    count();
  }
  return { counts, cache };
};

describe('KIVI', () => {
  // llama_kivi.py: keys are quantised up to a multiple of the residual length, values up to the residual length.
  test.each([2, 4])('%i bits: 96 or 160 bytes a token, behind a tail of each', (bits) => {
    const { counts, cache } = live('kivi', { kBits: bits, vBits: bits }, 300);
    // [raw, keys coded and values raw, both coded]
    expect(counts[0]).toEqual([1000 - 896, 896 - 872, 872]);
    expect(counts[24]).toEqual([128, 1, 895]);
    expect(counts[25]).toEqual([1, 128, 896]);
    for (const [step, [raw, keysOnly, both]] of counts.entries()) {
      const length = 1000 + step;
      const before = step === 0 ? length : length - 1;
      expect(both).toBe(before - 128);
      expect(both + keysOnly).toBe(before - (before % 128));
      expect(raw + keysOnly + both).toBe(length);
    }
    const coded = bits === 2 ? 96 : 160;
    const [raw, keysOnly, both] = counts[300];
    expect(cache.residentBytes('hbm')).toBe(raw * 512 + keysOnly * (coded / 2 + 256) + both * coded);
  });

  test('a residual that cuts a group is refused by name', () => {
    const parsed = catalog.kivi.config.safeParse({ residualTokens: 100 });
    expect(parsed.error?.issues[0].path).toEqual(['residualTokens']);
  });
});

describe('KVQuant', () => {
  test('4.32 bits an element and a range per value token, five raw tokens, no tail', () => {
    const { counts, cache } = live('kvquant', {}, 40);
    expect(counts[0]).toEqual([5, 995]);
    expect(counts[40]).toEqual([5, 1035]);
    const tables = 4 * D + 2 * 2 * 16;
    expect(cache.residentBytes('hbm')).toBeCloseTo(5 * 512 + 1035 * (138.24 + 4) + tables, 6);
  });
});

describe('any codec', () => {
  test('blocks are coded when they have left the tail', () => {
    const { counts } = live('quantized', { codec: 'int8', blockTokens: 64 }, 200);
    for (const [step, [raw, coded]] of counts.entries()) {
      const length = 1000 + step;
      expect(raw + coded).toBe(length);
      expect(raw).toBeGreaterThanOrEqual(4 + 128);
      expect(raw).toBeLessThan(4 + 128 + 64);
      expect(coded % 64).toBe(0);
    }
  });

  test('before rotary embedding: what is coded is the unrotated row, what comes back is rotated', () => {
    const rope = ropeOf({ theta: 10000, dim: D }, D);
    if (rope === null) throw new Error('a plain rotation is known');
    const random = createRandom(3, 'keys');
    const keys = Float32Array.from({ length: 200 * D }, () => random.normal());
    const wrapped = codeBeforeRope(codecs.int8, rope);
    // Blocks in any order share one array of unrotated rows.
    for (const [from, tokens] of [
      [64, 64],
      [0, 64],
      [128, 72],
    ]) {
      const out = new Float32Array(tokens * D);
      wrapped.encode(keys, keys, D, from, tokens).decodeKeys(out);
      const plain = keys.slice(from * D, (from + tokens) * D);
      unrotate(plain, tokens, from, rope);
      const wanted = new Float32Array(tokens * D);
      codecs.int8.encode(plain, plain, D, 0, tokens).decodeKeys(wanted);
      unrotate(out, tokens, from, rope);
      for (let i = 0; i < out.length; i += 17) expect(out[i]).toBeCloseTo(wanted[i], 1);
      let worst = 0;
      for (let i = 0; i < out.length; i++) worst = Math.max(worst, Math.abs(out[i] - wanted[i]));
      expect(worst).toBeLessThan(0.03);
    }
  });
});
