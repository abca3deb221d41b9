/**
 * scale · q·x of a group's queries with rows x that stand for tokens (centroids, landmarks, keys themselves): queries
 * bf16 [rows, group, headDim]; vectors: pieces of pieceBytes bytes that begin with bf16 [pieceVectors, headDim], of which
 * pieces u32 [rows, pieceStride] says where a row's are, absent = piece p of row r is r * pieceStride + p (one array
 * [rows, n, headDim] is pieceVectors n, pieceStride 1). scores f32 [rows, group or 1, scoreStride] of which the first
 * `count` are written; `reduce` as REDUCE of group-scores.ts. Row = sequence x KV head; group <= 32; headDim any number
 * up to 1024 (a few columns of keys); pieceBytes a multiple of 16.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { f32View, fromBf16, u32View } from '../floats.ts';
import { randomBf16, scoreRows, shuffled, u32Bytes, writeScores } from '../group-scores.ts';

export const call = {
  name: 'dot-score',
  refs: ['queries', 'vectors', 'pieces', 'scores'],
  writes: ['scores'],
  ints: [
    'rows',
    'group',
    'count',
    'headDim',
    'pieceVectors',
    'pieceStride',
    'pieceBytes',
    'scoreStride',
    'reduce',
  ],
  reals: ['scale'],
  optional: ['pieces'],
  extents: ({ rows, group, count, headDim, pieceVectors, pieceStride, scoreStride, reduce }) => ({
    queries: 2 * rows * group * headDim,
    pieces: rowsExtent(rows, 4 * Math.ceil(count / pieceVectors), 4 * pieceStride),
    scores: rowsExtent(rows * scoreRows(group, reduce), 4 * count, 4 * scoreStride),
  }),
  reference({ ints, reals: { scale }, bytes, has }) {
    const { rows, group, count, headDim, pieceVectors, pieceStride, pieceBytes, scoreStride, reduce } = ints;
    const queries = fromBf16(bytes('queries'), rows * group * headDim);
    const pieces = has('pieces') ? u32View(bytes('pieces')) : null;
    const vectors = bytes('vectors');
    const out = f32View(bytes('scores'));
    for (let row = 0; row < rows; row++) {
      const scores = Array.from({ length: group }, () => new Float64Array(count));
      for (let i = 0; i < count; i++) {
        const at = row * pieceStride + Math.floor(i / pieceVectors);
        const first = (pieces?.[at] ?? at) * pieceBytes + (i % pieceVectors) * headDim * 2;
        const vector = fromBf16(vectors.subarray(first), headDim);
        for (let g = 0; g < group; g++) {
          let sum = 0;
          for (let c = 0; c < headDim; c++) sum += queries[(row * group + g) * headDim + c] * vector[c];
          scores[g][i] = scale * sum;
        }
      }
      writeScores(scores, reduce, out, row * scoreRows(group, reduce) * scoreStride, scoreStride);
    }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const group = random.among([1, 4, 8, random.integer(1, 17)]);
    const count = random.integer(1, 200);
    const headDim = random.among([16, 64, 80, 128, 256, 25, 38, random.integer(1, 140)]);
    const pieceVectors = random.among([count, 16, 1]);
    const pieceStride = Math.ceil(count / pieceVectors);
    const pieceBytes = 16 * Math.ceil((pieceVectors * headDim * random.integer(1, 2)) / 8);
    const scoreStride = count + random.integer(0, 2);
    const reduce = random.integer(0, 3);
    const bytes = 4 * rows * scoreRows(group, reduce) * scoreStride;
    const pieces = { tier: 'hbm', data: u32Bytes(shuffled(random, rows * pieceStride)) } as const;
    return {
      label: `dot-score rows ${rows} group ${group} count ${count} headDim ${headDim} piece ${pieceVectors}`,
      buffers: {
        queries: { tier: 'hbm', data: randomBf16(random, rows * group * headDim) },
        vectors: { tier: 'hbm', data: randomBf16(random, (rows * pieceStride * pieceBytes) / 2) },
        scores: { tier: 'hbm', data: bytes },
        ...(random.integer(0, 1) === 1 ? { pieces } : {}),
      },
      ints: { rows, group, count, headDim, pieceVectors, pieceStride, pieceBytes, scoreStride, reduce },
      reals: { scale: 1 / Math.sqrt(headDim) },
      outputs: [{ ref: 'scores', bytes, type: 'f32', tolerance: 1e-5 }],
    };
  },
} satisfies KernelSpec;
