/**
 * Attention mass by block of tokens, from a trace's keys and queries or from the mass that it records: the mean over
 * the query heads of a KV head, so that a step's blocks sum to 1. One KV head at a time, exactly.
 */
import { log2 } from '../../../sim/engine/math.ts';
import { attendExactly, createExactAttention } from '../../../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../../../sim/trace/attention-trace.ts';
import { TraceError } from '../../error.ts';

/** One KV head's blocks at every step, row-major [steps, blocks]. */
export interface HeadMass {
  readonly layer: number;
  readonly kvHead: number;
  readonly mass: Float32Array;
  /** What only keys and queries can say; null from recorded mass. */
  readonly detail: {
    /** Share of the block's mass on its best token. */
    readonly top1Share: Float32Array;
    /** Entropy of the mass inside the block, bits. */
    readonly entropy: Float32Array;
  } | null;
}

export interface BlockMassOptions {
  readonly blockTokens: number;
  readonly layers: readonly number[];
  readonly detail: boolean;
  /** Tokens that a layer attends to; null = all. */
  readonly windowOf: (layer: number) => number | null;
}

/** Blocks that hold every token of the trace, the last perhaps in part. */
export const blocksOf = ({ promptTokens, steps }: AttentionTrace['shape'], blockTokens: number): number =>
  Math.ceil((promptTokens + steps) / blockTokens);

/** Sums `row[0..n)`, whose first entry stands at position `first`, into `head`'s blocks from index `at`. */
const addBlocks = (
  row: Float32Array,
  n: number,
  first: number,
  blockTokens: number,
  head: HeadMass,
  at: number,
): void => {
  const { mass, detail } = head;
  for (let from = 0; from < n; ) {
    const block = Math.floor((first + from) / blockTokens);
    const to = Math.min(n, (block + 1) * blockTokens - first);
    let sum = 0;
    let largest = 0;
    for (let i = from; i < to; i++) {
      sum += row[i];
      if (row[i] > largest) largest = row[i];
    }
    mass[at + block] = sum;
    if (detail !== null && sum > 0) {
      detail.top1Share[at + block] = largest / sum;
      let entropy = 0;
      for (let i = from; i < to; i++) if (row[i] > 0) entropy -= (row[i] / sum) * log2(row[i] / sum);
      detail.entropy[at + block] = Math.max(0, entropy);
    }
    from = to;
  }
};

const createHead = (layer: number, kvHead: number, size: number, detail: boolean): HeadMass => ({
  layer,
  kvHead,
  mass: new Float32Array(size),
  detail: detail ? { top1Share: new Float32Array(size), entropy: new Float32Array(size) } : null,
});

/** Computes every KV head's block mass from keys and queries, layer by layer. */
function* computeMass(trace: AttentionTrace, options: BlockMassOptions): Generator<HeadMass> {
  const { heads, kvHeads, headDim, promptTokens, steps } = trace.shape;
  const { blockTokens, detail, windowOf } = options;
  const groupSize = heads / kvHeads;
  const blocks = blocksOf(trace.shape, blockTokens);
  const exact = createExactAttention(groupSize, promptTokens + steps, 0);
  const row = new Float32Array(promptTokens + steps);
  for (const layer of options.layers) {
    const windowTokens = windowOf(layer);
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const head = createHead(layer, kvHead, steps * blocks, detail);
      const keys = trace.keys(layer, kvHead);
      for (let step = 0; step < steps; step++) {
        const end = promptTokens + step + 1;
        const first = windowTokens === null ? 0 : Math.max(0, end - windowTokens);
        const n = end - first;
        attendExactly(
          exact,
          trace.queries(layer, step, kvHead),
          keys.subarray(first * headDim, end * headDim),
          null,
          headDim,
          n,
        );
        row.fill(0, 0, n);
        for (let g = 0; g < groupSize; g++)
          for (let i = 0, at = g * exact.stride; i < n; i++, at++) row[i] += exact.probabilities[at];
        for (let i = 0; i < n; i++) row[i] /= groupSize;
        addBlocks(row, n, first, blockTokens, head, step * blocks);
      }
      yield head;
    }
  }
}

/** Hands out the mass that a trace records, in blocks of its own size or of a multiple. */
function* recordedMass(
  trace: AttentionTrace,
  { layers, blockTokens }: BlockMassOptions,
): Generator<HeadMass> {
  const { kvHeads, steps } = trace.shape;
  const blocks = blocksOf(trace.shape, blockTokens);
  for (const layer of layers) {
    const recorded = trace.blockMass(layer);
    const own = recorded.mass.length / (steps * kvHeads);
    const ratio = blockTokens / recorded.blockTokens;
    for (let kvHead = 0; kvHead < kvHeads; kvHead++) {
      const head = createHead(layer, kvHead, steps * blocks, false);
      for (let step = 0; step < steps; step++) {
        const from = (step * kvHeads + kvHead) * own;
        for (let block = 0; block < own; block++)
          head.mass[step * blocks + Math.floor(block / ratio)] += recorded.mass[from + block];
      }
      yield head;
    }
  }
}

/** Tokens of a block when nobody asks: 128, or what the trace recorded. */
export const defaultBlockTokens = (trace: AttentionTrace): number => {
  const [layer] = trace.shape.recordedLayers;
  return trace.has('mass', layer) ? trace.blockMass(layer).blockTokens : 128;
};

/**
 * Every KV head of `layers`, from keys and queries where they are recorded, else from recorded mass. Throws TraceError
 * `missing` when a layer has neither, `invalid-input` when the blocks or the detail can't be had from recorded mass.
 */
export function* blockMassOf(trace: AttentionTrace, options: BlockMassOptions): Generator<HeadMass> {
  const { layers, blockTokens, detail } = options;
  const lacking = layers.filter((layer) => !(trace.has('k', layer) && trace.has('q', layer)));
  if (lacking.length === 0) return yield* computeMass(trace, options);
  for (const layer of layers) {
    if (!trace.has('mass', layer))
      throw new TraceError('missing', `${trace.name}: layer ${layer}: expected the fields k and q, or mass`);
    const own = trace.blockMass(layer).blockTokens;
    if (blockTokens % own !== 0) {
      const message = `${trace.name}: block tokens ${blockTokens}: expected a multiple of the ${own} that mass.${layer} was recorded with`;
      throw new TraceError('invalid-input', message);
    }
  }
  if (detail)
    throw new TraceError(
      'invalid-input',
      `${trace.name}: top1Share and entropy: need the fields k and q, found mass only`,
    );
  yield* recordedMass(trace, options);
}
