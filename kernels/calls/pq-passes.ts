/**
 * What pq-score and softmax-mass do, in the passes of PyTorch in which PQCache's authors do it (arXiv 2407.12820;
 * HugoZHL/PQCache vq_method/retrieval_based/pq_search.py, decoding_attn_GQA_euc): products of queries and centroids;
 * products gathered by 64-bit codes, each query head's own copy; their sum over subspaces; scaling; softmax; sum over the
 * group. Each pass is a launch, and what it leaves for the next lies in memory in half precision. queries bf16 [rows,
 * group, headDim]; books f16 [rows, subspaces, centroids, headDim / subspaces]; codes i64 [rows, group, subspaces,
 * codeStride]; scores f32 [rows, scoreStride], of which the first `count` are written. `passes` is room for f16
 * [rows, group] x (subspaces x (centroids + stride) + 2 stride), stride = count rounded up to 8; group <= 32.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f16Of, f32View, fromBf16, ofF16, u16View, u32View } from '../floats.ts';
import { randomBf16 } from '../group-scores.ts';

const STRIDE_MULTIPLE = 8;

/** Bytes of `passes`. */
export const passBytes = (
  vectors: number,
  { subspaces, centroids, count }: Readonly<Record<'subspaces' | 'centroids' | 'count', number>>,
): number => {
  const stride = STRIDE_MULTIPLE * Math.ceil(count / STRIDE_MULTIPLE);
  return 2 * vectors * (subspaces * (centroids + stride) + 2 * stride);
};

const softmax = (scores: Float64Array): Float64Array => {
  const largest = scores.reduce((a, b) => Math.max(a, b));
  const weights = scores.map((score) => Math.exp(score - largest));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
};

export const call = {
  name: 'pq-passes',
  refs: ['queries', 'books', 'codes', 'passes', 'scores'],
  writes: ['passes', 'scores'],
  ints: ['rows', 'group', 'count', 'headDim', 'subspaces', 'centroids', 'codeStride', 'scoreStride'],
  reals: ['scale'],
  extents: ({ rows, group, count, headDim, subspaces, centroids, codeStride, scoreStride }) => ({
    queries: 2 * rows * group * headDim,
    books: 2 * rows * centroids * headDim,
    codes: rowsExtent(rows * group * subspaces, 8 * count, 8 * codeStride),
    passes: passBytes(rows * group, { subspaces, centroids, count }),
    scores: rowsExtent(rows, 4 * count, 4 * scoreStride),
  }),
  reference({ ints, reals: { scale }, bytes }) {
    const { rows, group, count, headDim, subspaces, centroids, codeStride, scoreStride } = ints;
    const queries = fromBf16(bytes('queries'), rows * group * headDim);
    const books = u16View(bytes('books'));
    const codes = u32View(bytes('codes'));
    const out = f32View(bytes('scores'));
    const channels = headDim / subspaces;
    const product = (vector: number, s: number, centroid: number): number => {
      const row = Math.floor(vector / group);
      let sum = 0;
      for (let c = 0; c < channels; c++)
        sum +=
          queries[vector * headDim + s * channels + c] *
          ofF16(books[((row * subspaces + s) * centroids + centroid) * channels + c]);
      return sum;
    };
    for (let row = 0; row < rows; row++) {
      const total = new Float64Array(count);
      for (let vector = row * group; vector < (row + 1) * group; vector++) {
        const scores = Float64Array.from({ length: count }, (_, i) => {
          let sum = 0;
          for (let s = 0; s < subspaces; s++)
            sum += product(vector, s, codes[2 * ((vector * subspaces + s) * codeStride + i)]);
          return scale * sum;
        });
        softmax(scores).forEach((share, i) => {
          total[i] += share;
        });
      }
      out.set(total, row * scoreStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 3);
    const group = random.among([1, 4, random.integer(1, 17)]);
    const headDim = random.among([64, 80, 128]);
    const subspaces = random.among([1, 2, 4, 16]);
    const centroids = random.among([16, 64, 256, random.integer(1, 60)]);
    const count = random.among([random.integer(1, 150), random.integer(151, 5000)]);
    const codeStride = count + random.integer(0, 9);
    const scoreStride = count + random.integer(0, 3);
    const codes = new Uint32Array(2 * rows * group * subspaces * codeStride);
    for (let i = 0; i < codes.length; i += 2) codes[i] = random.integer(0, centroids - 1);
    const books = Uint16Array.from({ length: rows * centroids * headDim }, () => f16Of(random.normal()));
    const bytes = 4 * rows * scoreStride;
    return {
      label: `pq-passes rows ${rows} group ${group} count ${count} headDim ${headDim} ${subspaces} x ${centroids}`,
      buffers: {
        queries: { tier: 'hbm', data: randomBf16(random, rows * group * headDim) },
        books: { tier: 'hbm', data: new Uint8Array(books.buffer) },
        codes: { tier: 'hbm', data: new Uint8Array(codes.buffer) },
        passes: { tier: 'hbm', data: passBytes(rows * group, { subspaces, centroids, count }) },
        scores: { tier: 'hbm', data: bytes },
      },
      ints: { rows, group, count, headDim, subspaces, centroids, codeStride, scoreStride },
      reals: { scale: 1 / Math.sqrt(headDim) },
      // Every pass but the last rounds to half precision.
      outputs: [{ ref: 'scores', bytes, type: 'f32', tolerance: 5e-3 }],
    };
  },
} satisfies KernelSpec;
