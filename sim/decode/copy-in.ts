/**
 * Rows that come from DRAM to HBM as an operation: their size as they lie in the slower tier, and how much of it a step
 * visits, which is what translations of addresses cost.
 */
import type { Transfer } from '../policy/transfer.ts';
import { type FetchOperation, PIECE_BYTES } from '../program/operation.ts';
import type { LoweringInput } from './lowering-input.ts';

export interface Rows {
  readonly rows: number;
  readonly rowBytes: number;
}

/** Rows of `tokens` tokens (per KV head, one form) as they lie in the slower tier, for the whole batch. */
const rowsOf = ({ model, forms, policy, batch }: LoweringInput, tokens: number, form: number): Rows => {
  const { rowTokens, joinHeads, joinKv } = policy.transfer;
  const perToken = forms[form].kBytesPerToken + forms[form].vBytesPerToken;
  const bytes = tokens * perToken * model.kvHeads * batch;
  const ideal =
    rowTokens === Infinity
      ? bytes / batch
      : rowTokens * perToken * (joinHeads ? model.kvHeads : 1) * (joinKv ? 1 : 0.5);
  const rows = Math.max(1, Math.round(bytes / ideal));
  return { rows, rowBytes: bytes / rows };
};

/** Tokens of one KV head and sequence, and the pieces of host memory that they lie in; 0 = not counted. */
interface Copied {
  readonly tokens: number;
  readonly form: number;
  readonly pieces: number;
}

/** Whether a copy is named row by row on the host, after a choice that the GPU makes in the same step. */
export const namedByHost = ({ mode, rowTokens, speculative = false }: Transfer): boolean =>
  (mode === 'dma' || mode === 'dma-batch') && rowTokens !== Infinity && !speculative;

/** A copy of `part` (0..1) of these tokens, of all KV heads and sequences. */
export const copyIn = (
  input: LoweringInput,
  { tokens, form, pieces }: Copied,
  part: number,
): Omit<FetchOperation, 'layer' | 'after'> => {
  const { layerDramBytes, model, policy, batch } = input;
  const { mode } = policy.transfer;
  const { rows, rowBytes } = rowsOf(input, tokens * part, form);
  const visited = pieces * model.kvHeads * batch;
  const touchedBytes = visited > 0 ? visited * PIECE_BYTES : (rows / part) * Math.max(PIECE_BYTES, rowBytes);
  return {
    kind: 'fetch',
    from: 'dram',
    to: 'hbm',
    rows,
    rowBytes,
    regionBytes: layerDramBytes,
    ...(visited > 0 ? { pieces: visited * part } : {}),
    visitedBytes: model.layers * Math.min(layerDramBytes, touchedBytes),
    mode,
    stream: mode === 'uva' ? 'compute' : 'h2d',
  };
};
