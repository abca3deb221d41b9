/** `kvtier place`: the published placement on the machine that it was published for, and what is refused. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { recordedContext } from '../test/recorded-context.ts';
import { verb } from './place.ts';

interface Document {
  readonly format: string;
  readonly experiment: Readonly<Record<string, unknown>>;
  readonly best: Readonly<Record<'weights' | 'cache' | 'activations', Readonly<Record<string, number>>>> & {
    readonly batch: number;
    readonly batches: number;
    readonly tokensPerS: number;
  };
  readonly policy: { readonly name: string; readonly config: Readonly<Record<string, unknown>> };
}

const run = async (flags: Readonly<Record<string, unknown>>) => {
  const { context, documents, lines } = recordedContext();
  await verb.run(verb.flags.parse(flags), context);
  expect(documents).toHaveLength(1);
  return { document: documents[0] as Document, text: lines.join('\n') };
};

/** A gated shape with the layers, KV and weight bytes of OPT-30B. */
const opt30b = (): string => {
  const path = join(mkdtempSync(join(tmpdir(), 'kvtier-')), 'opt-30b.json');
  const config = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    hidden_size: 7168,
    intermediate_size: 19115,
    num_hidden_layers: 48,
    num_attention_heads: 56,
    num_key_value_heads: 56,
    vocab_size: 50272,
    max_position_embeddings: 2048,
    rope_theta: 10000,
    tie_word_embeddings: true,
    torch_dtype: 'float16',
  };
  writeFileSync(path, JSON.stringify(config));
  return path;
};

describe('place', () => {
  it('finds the published placement of OPT-30B on a T4 (20 % of the weights, KV in DRAM)', async () => {
    const { document, text } = await run({ model: opt30b(), hardware: 't4', batch: 48, batches: 3 });
    const { weights, cache, activations } = document.best;
    // 0.8 of the memory may be filled here; the authors relax it to 1.2 of it for this placement.
    expect(weights.hbm).toBeGreaterThan(0.1);
    expect(weights.hbm).toBeLessThan(0.21);
    expect(weights.nvme).toBeCloseTo(0, 6);
    expect([cache.dram, activations.dram].map((share) => Math.round(share * 100))).toEqual([100, 100]);
    expect(document.policy).toEqual({
      name: 'flexgen',
      config: { hbmShare: 0, nvmeShare: 0, attendAt: 'cpu' },
    });
    expect(document.format).toBe('kvtier.result/1');
    expect(text).toMatch(/3 x 48 sequences: .* tokens\/s/);
    expect(text).toMatch(/KV cache +0\.0 % +100\.0 % +0\.0 %/);
  });

  it('keeps given shares, and says how the cache runs beside policies', async () => {
    const given = { model: 'llama-3.1-8b', context: 32_768, weights: [1, 0, 0], batch: 1, batches: 64 };
    const { document, text } = await run(given);
    expect(document.best.weights).toEqual({ hbm: 1, dram: 0, nvme: 0 });
    const { config } = document.policy;
    expect(config.hbmShare).toBeGreaterThan(0);
    expect(config.hbmShare).toBeLessThan(1);
    expect(text).toContain(`flexgen:hbmShare=${config.hbmShare};nvmeShare=${config.nvmeShare};attendAt=cpu`);
  });

  it('searches the block, within the sequences that are allowed', async () => {
    const { best } = (await run({ model: 'qwen2.5-32b', hardware: 'rtx-4090', mostSequences: 64 })).document;
    expect(best.batch * best.batches).toBeLessThanOrEqual(64);
    const { best: all } = (await run({ model: 'qwen2.5-32b', hardware: 'rtx-4090' })).document;
    expect(all.tokensPerS).toBeGreaterThanOrEqual(best.tokensPerS);
  });

  it.each([
    [{ weights: [1, 0] }, /--weights 1,0: expected three shares/],
    [{ cache: [0.5, 0.6, 0] }, /--cache 0.5,0.6,0: .* add up to 1/],
    [{ batches: 2 }, /--batches: expected --batch/],
    [{ batch: 8, batches: 2, mostSequences: 8 }, /--most-sequences 8/],
    [{ hardware: 't4', weights: [1, 0, 0] }, /no placement fits t4/],
  ])('refuses %j', async (flags, message) => {
    await expect(run(flags)).rejects.toThrow(message);
  });
});
