/** Operations by a few numbers: what `predict` asks about, and what the tests of the cost model sweep. */
import type {
  AttendOperation,
  FetchOperation,
  Gemm,
  SelectOperation,
  TransferMode,
} from '../program/operation.ts';

const alone = { layer: 0, after: [] } as const;

export interface AttendCase {
  readonly batch: number;
  /** Query tokens a sequence; 1 (default) = decode, more = causal prefill at the end of the context. */
  readonly queries?: number;
  /** Tokens of a sequence when it ends, queries included. */
  readonly context: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly elementBytes: number;
}

/** Attention over KV in HBM: K and V read once, 4 · heads · headDim flops a query and key. */
export const attendOf = (one: AttendCase): AttendOperation => {
  const { batch, queries = 1, context, heads, kvHeads, headDim, elementBytes } = one;
  const seen = queries === 1 ? context : context - queries / 2;
  return {
    ...alone,
    kind: 'attend',
    stream: 'compute',
    sequences: batch,
    queries,
    contextTokens: context,
    heads,
    kvHeads,
    headDim,
    readBytes: { hbm: 2 * batch * kvHeads * headDim * context * elementBytes },
    flops: 4 * heads * headDim * batch * queries * seen,
    where: 'gpu',
  };
};

/** [m,k] × [k,n] with weights of `elementBytes`. */
export const gemmOf = (m: number, n: number, k: number, elementBytes: number): Gemm => ({
  m,
  n,
  k,
  weightBytes: n * k * elementBytes,
});

export interface GatherCase {
  readonly tier: 'hbm' | 'dram';
  readonly mode: TransferMode;
  readonly rows: number;
  readonly rowBytes: number;
  readonly regionBytes?: number;
}

/** Scattered rows brought together in HBM. */
export const gatherOf = ({ tier, ...rest }: GatherCase): FetchOperation => ({
  ...alone,
  ...rest,
  kind: 'fetch',
  from: tier,
  to: 'hbm',
  stream: tier === 'hbm' || rest.mode === 'uva' ? 'compute' : 'h2d',
});

export const selectOf = (rows: number, of: number, k: number): SelectOperation => ({
  ...alone,
  kind: 'select',
  stream: 'compute',
  rows,
  of,
  k,
});
