/** Rebuilding of chosen tokens: DeltaKV's (the mean of their references and a product), ShadowKV's (keys from their factors). */

import { latentBytes, scaleBytes } from '../../../kernels/delta.ts';
import { byPosition } from '../memory.ts';
import { countOf, type KernelBinder, shapeOf } from './kernel-use.ts';

/** Of so many stored tokens one is rebuilt, and as many references are there as tokens are rebuilt. */
const CHOSEN_EVERY = 8;

/** All KV heads of a token at once; latents are read where attention is counted, and stand there. */
export const rebuild: KernelBinder = (use) => {
  const { binding, batch, kvHeads, headDim } = use;
  const tokens = batch * countOf(use, 'tokens');
  const [latentDim, neighbours, bits] = ['latentDim', 'neighbours', 'bits'].map((name) => shapeOf(use, name));
  const width = 2 * kvHeads * headDim;
  if (tokens < 1 || width % 32 !== 0 || latentDim % 32 !== 0 || ![4, 16].includes(bits)) return null;
  const { layout } = binding;
  const stored = CHOSEN_EVERY * tokens;
  const near = () =>
    layout.numbers(
      'tables',
      stored * neighbours,
      byPosition((i) => (Math.imul(i, 0x9e3779b1) >>> 8) % tokens),
    );
  binding.add('delta-rebuild', {
    refs: {
      chosen: binding.once(`chosen ${tokens}`, () =>
        layout.numbers(
          'tables',
          tokens,
          byPosition((i) => CHOSEN_EVERY * i),
        ),
      ),
      latents: layout.place(bits === 16 ? 'kv' : 'codes', stored * latentBytes(latentDim, bits)),
      ...(bits === 16 ? {} : { scales: layout.place('kv', stored * scaleBytes(latentDim, bits)) }),
      near: binding.once(`near ${stored} ${neighbours}`, near),
      references: layout.place('kv', 2 * tokens * width),
      up: layout.place('kv', 2 * width * latentDim),
      out: layout.place('outputs', 2 * tokens * width),
    },
    ints: { tokens, width, latentDim, neighbours, bits },
  });
  const row = 2 * width;
  return {
    read: tokens * (neighbours * row + latentBytes(latentDim, bits)) + row * latentDim,
    write: tokens * row,
  };
};

/** Keys of chunks that each KV head chose; the table of turns is the same for all layers, so it stays in cache and is not counted. */
export const lowRankRebuild: KernelBinder = (use) => {
  const { binding, rows, kvHeads, headDim } = use;
  const count = countOf(use, 'tokens');
  const [rank, chunkTokens] = [shapeOf(use, 'rank'), shapeOf(use, 'chunkTokens', 1)];
  if (count < 1 || rank < 32 || rank % 32 !== 0 || headDim % 16 !== 0 || headDim > 128) return null;
  const { layout } = binding;
  const chunks = Math.ceil(count / chunkTokens);
  const tokens = CHOSEN_EVERY * chunks * chunkTokens;
  // Heads of a sequence choose different chunks of the same tokens.
  const chosen = () =>
    layout.numbers(
      'tables',
      rows * count,
      byPosition((i) => {
        const [row, at] = [Math.floor(i / count), i % count];
        const chunk = CHOSEN_EVERY * Math.floor(at / chunkTokens) + (row % CHOSEN_EVERY);
        return chunk * chunkTokens + (at % chunkTokens);
      }),
    );
  const factors = layout.place('kv', 2 * (rows / kvHeads) * tokens * rank);
  binding.add('low-rank-rebuild', {
    refs: {
      chosen: binding.once(`chunks ${rows} ${count}`, chosen),
      factors,
      directions: layout.place('kv', 2 * rows * headDim * rank),
      turns: binding.once(`turns ${tokens}`, () => layout.place('kv', 2 * tokens * headDim)),
      out: layout.place('outputs', 2 * rows * count * headDim),
    },
    ints: { rows, kvHeads, count, tokens, headDim, rank },
  });
  return { read: 2 * rows * (count + headDim) * rank, write: 2 * rows * count * headDim };
};
