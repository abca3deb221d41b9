/**
 * Which bytes a call touches, by its own arguments and the tables that it is given: runs of bytes from each of its buffers,
 * read or written, launch by launch. What arguments and tables do not say the extent of is left out; it is small.
 */

import { type Call, COPY_MODES, type Ref, ROW_MODES } from '../../kernels/calls.ts';
import { specOf } from '../../kernels/check-call.ts';
import { latentBytes, scaleBytes } from '../../kernels/delta.ts';
import { NUQ_PAGE_TOKENS } from '../../kernels/nuq.ts';

/** Calls `put` with the runs of a touch in the order in which they are gone through: bytes from the ref on, length. */
export type Runs = (put: (offset: number, bytes: number) => void) => void;

export interface Touch {
  readonly ref: Ref;
  readonly isWrite: boolean;
  readonly runs: Runs;
  /** True where blocks take equal parts of the runs and go through them at once; else the runs come one behind the other. */
  readonly atOnce?: boolean;
}

/** Touches that go on together, each from its first run to its last. */
export type Launch = readonly Touch[];

/** The 32-bit numbers that a table holds. */
export type TableOf = (ref: Ref) => Uint32Array;

/** Whether a copy engine moves the rows, not a kernel. */
export const isByEngine = ({ kernel, ints }: Call): boolean =>
  kernel === 'copy'
    ? ints.mode !== COPY_MODES.indexOf('kernel')
    : (kernel === 'gather' || kernel === 'scatter') && ints.mode !== ROW_MODES.indexOf('kernel');

const one =
  (bytes: number): Runs =>
  (put) => {
    if (bytes > 0) put(0, bytes);
  };

const strided =
  (count: number, bytes: number, stride: number): Runs =>
  (put) => {
    for (let i = 0; i < count; i++) put(i * stride, bytes);
  };

const indexed =
  (index: Uint32Array, bytes: number, stride: number): Runs =>
  (put) => {
    for (let i = 0; i < index.length; i++) put(index[i] * stride, bytes);
  };

/** Rows that a kernel or an engine moves. Engines are told of rows by the host. */
const movedRows = (call: Call, tableOf: TableOf): Launch => {
  const { source, target, index } = call.refs;
  const { rows, rowBytes, sourceStride, targetStride } = call.ints;
  const isGather = call.kernel === 'gather';
  const ids = tableOf(index);
  const [from, to] = isGather
    ? [indexed(ids, rowBytes, sourceStride), strided(rows, rowBytes, targetStride)]
    : [strided(rows, rowBytes, sourceStride), indexed(ids, rowBytes, targetStride)];
  return [
    { ref: index, isWrite: false, runs: one(4 * rows) },
    { ref: source, isWrite: false, runs: from },
    { ref: target, isWrite: true, runs: to },
  ];
};

const copied = ({ refs, ints: { count, bytes, sourceStride, targetStride } }: Call): Launch => [
  { ref: refs.source, isWrite: false, runs: strided(count, bytes, sourceStride) },
  { ref: refs.target, isWrite: true, runs: strided(count, bytes, targetStride) },
];

/** Pages of all rows, of the last one what its tokens take: keys, then values. */
const pages =
  (
    { rows, pageStride }: Readonly<Record<string, number>>,
    pageTokens: number,
    [table, offsets, tokens]: readonly Uint32Array[],
  ): Runs =>
  (put) => {
    for (let row = 0; row < rows; row++)
      for (let at = offsets[row]; at < offsets[row + 1]; at++) {
        const left = (tokens[row] - (at - offsets[row]) * pageTokens) / pageTokens;
        const page = table[at] * pageStride;
        if (left >= 1) put(page, pageStride);
        else for (const half of [0, pageStride / 2]) put(page + half, (left * pageStride) / 2);
      }
  };

/** What a call's extents say, but for refs that are told otherwise. */
const byExtents = ({ kernel, refs, ints }: Call, other: readonly string[] = []): Launch => {
  const spec = specOf(kernel);
  const extents = spec.extents?.(ints) ?? {};
  return Object.entries(refs).flatMap(([name, ref]) =>
    other.includes(name) || extents[name] === undefined
      ? []
      : [{ ref, isWrite: spec.writes.includes(name), runs: one(extents[name]) }],
  );
};

const attended = (call: Call, pageTokens: number, tableOf: TableOf): Launch => {
  const { pool, table, offsets, tokens, mask, logits } = call.refs;
  const tables = [table, offsets, tokens].map(tableOf);
  const entries = tables[0].length;
  const listed = (mask === undefined ? [table] : [table, mask]).map(
    (ref): Touch => ({ ref, isWrite: false, runs: one(4 * entries) }),
  );
  const left = logits === undefined ? 0 : 4 * entries * pageTokens * call.ints.group;
  return [
    { ref: pool, isWrite: false, runs: pages(call.ints, pageTokens, tables), atOnce: true },
    ...listed,
    ...(logits === undefined ? [] : [{ ref: logits, isWrite: true, runs: one(left), atOnce: true }]),
    ...byExtents(call),
  ];
};

/** Each pass reads what the one before it wrote; the shares of the softmax lie where products lay. */
const productPasses = (call: Call): readonly Launch[] => {
  const { rows, group, count, subspaces, centroids } = call.ints;
  const { codes, passes, scores } = call.refs;
  const extents = specOf(call.kernel).extents?.(call.ints) ?? {};
  const vectors = rows * group;
  const lineBytes = 2 * 8 * Math.ceil(count / 8);
  const line = (first: number, lines: number): Omit<Touch, 'isWrite'> => ({
    ref: passes,
    runs: (put) => put(2 * vectors * subspaces * centroids + first * lineBytes, lines * lineBytes),
  });
  const taken = line(0, vectors * subspaces);
  const shares = line(0, vectors);
  const [sums, scaled] = [0, 1].map((at) => line(vectors * (subspaces + at), vectors));
  const pass = (from: Omit<Touch, 'isWrite'>, to: Omit<Touch, 'isWrite'>): Launch => [
    { ...from, isWrite: false },
    { ...to, isWrite: true },
  ];
  return [
    byExtents(call, ['codes', 'passes', 'scores']),
    pass({ ref: codes, runs: one(extents.codes) }, taken),
    pass(taken, sums),
    pass(sums, scaled),
    pass(scaled, shares),
    pass(shares, { ref: scores, runs: one(extents.scores) }),
  ];
};

/** Candidates lie anywhere among a row's tokens; which they are only the selection before knows, so they are spread evenly. */
const candidates = ({ refs, ints }: Call): Touch => {
  const { rows, count, tokenStride, codeStride } = ints;
  return {
    ref: refs.codes,
    isWrite: false,
    runs: (put) => {
      for (let row = 0; row < rows; row++)
        for (let i = 0; i < count; i++)
          put((row * tokenStride + Math.floor((i * tokenStride) / count)) * codeStride, codeStride);
    },
  };
};

const lowRankFactors = ({ refs, ints }: Call, chosen: Uint32Array): Touch => {
  const { kvHeads, count, tokens, rank } = ints;
  return {
    ref: refs.factors,
    isWrite: false,
    runs: (put) =>
      chosen.forEach((token, i) => {
        const sequence = Math.floor(i / (count * kvHeads));
        put((sequence * tokens + token) * 2 * rank, 2 * rank);
      }),
  };
};

const deltaSources = ({ refs, ints }: Call, tableOf: TableOf): Launch => {
  const { width, latentDim, neighbours, bits } = ints;
  const chosen = tableOf(refs.chosen);
  const near = tableOf(refs.near);
  const rowBytes = 2 * width;
  const rows = (ref: Ref, bytes: number): Touch => ({
    ref,
    isWrite: false,
    runs: indexed(chosen, bytes, bytes),
  });
  return [
    rows(refs.latents, latentBytes(latentDim, bits)),
    ...(refs.scales === undefined ? [] : [rows(refs.scales, scaleBytes(latentDim, bits))]),
    rows(refs.near, 4 * neighbours),
    {
      ref: refs.references,
      isWrite: false,
      runs: (put) =>
        chosen.forEach((token) => {
          for (let n = 0; n < neighbours; n++) put(near[token * neighbours + n] * rowBytes, rowBytes);
        }),
    },
  ];
};

/** Vectors of pieces that follow each other, which is how steps lay them. */
const vectors = ({ refs, ints }: Call): Touch => ({
  ref: refs.vectors,
  isWrite: false,
  runs: one(ints.rows * ints.count * 2 * ints.headDim),
});

/** The launches of a call, in their order. */
export const launchesOf = (call: Call, tableOf: TableOf): readonly Launch[] => {
  switch (call.kernel) {
    case 'gather':
    case 'scatter':
      return [movedRows(call, tableOf)];
    case 'copy':
      return [copied(call)];
    case 'attend':
      return [attended(call, call.ints.pageTokens, tableOf)];
    case 'nuq-attend':
      return [attended(call, NUQ_PAGE_TOKENS, tableOf)];
    case 'dot-score':
    case 'lsh-hash':
      return [[vectors(call), ...byExtents(call)]];
    case 'pq-passes':
      return productPasses(call);
    case 'paris-rerank':
      return [[candidates(call), ...byExtents(call)]];
    case 'low-rank-rebuild':
      return [[lowRankFactors(call, tableOf(call.refs.chosen)), ...byExtents(call, ['factors'])]];
    case 'delta-rebuild':
      return [[...deltaSources(call, tableOf), ...byExtents(call)]];
    case 'work': {
      const { read, write } = call.refs;
      return [
        [
          ...(read === undefined ? [] : [{ ref: read, isWrite: false, runs: one(call.ints.readBytes) }]),
          ...(write === undefined ? [] : [{ ref: write, isWrite: true, runs: one(call.ints.writeBytes) }]),
        ],
      ];
    }
    default:
      return [byExtents(call)];
  }
};
