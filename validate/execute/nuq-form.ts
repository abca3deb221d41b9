/** KVQuant's stored forms as pages of codes that kernels look up, and the coding of new tokens into them. */
import { NUQ_PAGE_TOKENS, type NuqShape, nuqBookBytes, nuqLayout } from '../../kernels/nuq.ts';
import type { StoredForm } from '../../sim/memory/head-cache.ts';
import type { Binding } from './binding.ts';
import { byPosition } from './memory.ts';

export interface NuqForm extends NuqShape {
  readonly isTurned: boolean;
}

/** Bytes of an outlier: a half and its place. */
const OUTLIER_BYTES = 4;
const HEAD_DIMS: readonly number[] = [64, 128, 256];

/** The shape of a form's pages, by its name and the bytes of a token's values; null = kernels have none of it. */
export const nuqFormOf = (
  { name, vBytesPerToken, isTurned = false }: StoredForm,
  headDim: number,
  pageTokens: number,
): NuqForm | null => {
  const bits = Number(/^nuq([234])$/.exec(name)?.[1] ?? 0);
  if (bits === 0 || pageTokens !== NUQ_PAGE_TOKENS || !HEAD_DIMS.includes(headDim)) return null;
  const sparseBytes = vBytesPerToken - (headDim * bits) / 8;
  const outliers = Math.round((NUQ_PAGE_TOKENS * sparseBytes) / OUTLIER_BYTES);
  return { headDim, bits, outliers, isTurned };
};

/** Bytes of pages for `slots` tokens. */
export const nuqBytes = (form: NuqForm, slots: number): number =>
  Math.ceil(slots / NUQ_PAGE_TOKENS) * nuqLayout(form).stride;

/** Codes `count` new tokens of each row. */
export const bindNuqEncode = (binding: Binding, form: NuqForm, rows: number, count: number): void => {
  const { layout } = binding;
  const { headDim, bits, outliers } = form;
  const { stride, bytes } = nuqLayout(form);
  const pages = Math.ceil(count / NUQ_PAGE_TOKENS);
  binding.add('nuq-encode', {
    refs: {
      source: layout.place('kv', 4 * rows * count * headDim),
      target: layout.place('outputs', rows * pages * stride),
      books: layout.place('kv', rows * nuqBookBytes(headDim, bits)),
      slots: layout.numbers(
        'tables',
        rows,
        byPosition((row) => row * pages * NUQ_PAGE_TOKENS),
      ),
    },
    ints: { rows, count, headDim, bits, outliers, pageStride: stride },
  });
  binding.touch('hbm', rows * count * (4 * headDim + bytes / NUQ_PAGE_TOKENS));
};
