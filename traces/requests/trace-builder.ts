/**
 * Collects rows into the columns of a request trace: interns hashes, puts rows in order of arrival, and finds how many
 * tokens a block has from the lengths themselves, so that a trace with other blocks than its format's is not misread.
 */
import { createColumns } from '../../sim/engine/columns.ts';
import { TraceError } from '../error.ts';
import { Interner } from './interner.ts';
import type { RequestFormat, RequestRow, RequestTrace } from './request-trace.ts';

/** Offsets are 32-bit. */
const MAX_BLOCKS = 2 ** 31 - 1;

export class RequestTraceBuilder {
  readonly #format: RequestFormat;
  readonly #rows = createColumns({
    arrivalNs: 'f64',
    inputTokens: 'i32',
    outputTokens: 'i32',
    blockEnd: 'i32',
    session: 'i32',
    thinkNs: 'f64',
  });
  readonly #blocks = createColumns({ id: 'i32' }, 1024);
  readonly #interner = new Interner();
  readonly #sessions = new Interner();
  #hasThink = false;
  #ordered = true;
  /** Tokens a block that fit all rows so far: ceil(input / tokens) = number of hashes. */
  #leastTokens = 1;
  #mostTokens = Number.POSITIVE_INFINITY;

  constructor(format: RequestFormat) {
    this.#format = format;
  }

  add(row: RequestRow): void {
    const rows = this.#rows;
    const at = rows.add();
    const { data } = rows;
    this.#addBlocks(row);
    if (at > 0 && row.arrivalNs < data.arrivalNs[at - 1]) this.#ordered = false;
    data.arrivalNs[at] = row.arrivalNs;
    data.inputTokens[at] = row.inputTokens;
    data.outputTokens[at] = row.outputTokens;
    data.blockEnd[at] = this.#blocks.length;
    data.session[at] = row.session === undefined ? -1 : this.#sessions.intern(row.session);
    data.thinkNs[at] = row.thinkNs ?? 0;
    if (row.thinkNs !== undefined) this.#hasThink = true;
  }

  #addBlocks({ hashes, inputTokens }: RequestRow): void {
    const blocks = this.#blocks;
    const { length } = hashes;
    if (length === 0) return;
    if (blocks.length + length > MAX_BLOCKS) {
      throw new TraceError('not-supported', `expected at most ${MAX_BLOCKS} block accesses`);
    }
    const from = blocks.length;
    blocks.reserve(from + length);
    blocks.length = from + length;
    const { id } = blocks.data;
    for (let k = 0; k < length; k++) id[from + k] = this.#interner.intern(hashes[k]);
    this.#leastTokens = Math.max(this.#leastTokens, Math.ceil(inputTokens / length));
    if (length > 1) this.#mostTokens = Math.min(this.#mostTokens, Math.ceil(inputTokens / (length - 1)) - 1);
  }

  /** The trace. `name` is what messages and results call it, `statedTokens` the tokens a block that file or format state. */
  finish(name: string, statedTokens: number): RequestTrace {
    const rows = this.#rows.view();
    const notes: string[] = [];
    const requests = this.#rows.length;
    if (requests === 0)
      throw new TraceError('malformed', `${name}: expected at least one request, found none`);
    const offsets = new Int32Array(requests + 1);
    offsets.set(rows.blockEnd, 1);
    const trace: RequestTrace = {
      name,
      format: this.#format.kind,
      blockTokens: this.#blocks.length === 0 ? 0 : this.#blockTokens(statedTokens, notes),
      arrivalNs: rows.arrivalNs,
      inputTokens: rows.inputTokens,
      outputTokens: rows.outputTokens,
      offsets,
      blockIds: this.#blocks.view().id,
      uniqueBlocks: this.#interner.size,
      session: this.#sessions.size > 0 ? rows.session : null,
      thinkNs: this.#hasThink ? rows.thinkNs : null,
      notes,
    };
    if (this.#ordered) return trace;
    notes.push('arrivals were not in order; requests were sorted by arrival, ties as in the file');
    return sortByArrival(trace);
  }

  #blockTokens(stated: number, notes: string[]): number {
    const least = this.#leastTokens;
    const most = this.#mostTokens;
    if (stated >= least && stated <= most) return stated;
    for (let tokens = 1; tokens <= most; tokens *= 2) {
      if (tokens < least) continue;
      notes.push(`blocks of ${tokens} tokens, as lengths and hashes say (stated: ${stated})`);
      return tokens;
    }
    notes.push(
      `hash counts do not follow from the input lengths at any block size; ${stated} tokens a block assumed`,
    );
    return stated;
  }
}

const sortByArrival = (trace: RequestTrace): RequestTrace => {
  const { arrivalNs, offsets, session, thinkNs } = trace;
  const order = Array.from(arrivalNs, (_, at) => at).sort((a, b) => arrivalNs[a] - arrivalNs[b] || a - b);
  const sortedOffsets = new Int32Array(offsets.length);
  const blockIds = new Int32Array(trace.blockIds.length);
  order.forEach((from, to) => {
    const blocks = trace.blockIds.subarray(offsets[from], offsets[from + 1]);
    blockIds.set(blocks, sortedOffsets[to]);
    sortedOffsets[to + 1] = sortedOffsets[to] + blocks.length;
  });
  return {
    ...trace,
    arrivalNs: Float64Array.from(order, (at) => arrivalNs[at]),
    inputTokens: Int32Array.from(order, (at) => trace.inputTokens[at]),
    outputTokens: Int32Array.from(order, (at) => trace.outputTokens[at]),
    offsets: sortedOffsets,
    blockIds,
    session: session === null ? null : Int32Array.from(order, (at) => session[at]),
    thinkNs: thinkNs === null ? null : Float64Array.from(order, (at) => thinkNs[at]),
  };
};
