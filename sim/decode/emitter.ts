/**
 * The operations of a lowering, one method a kind: scales what one KV head of one sequence needs to all KV heads and
 * the batch, and gives rows the size in which they lie in the slower tier.
 */
import type { StoredForm } from '../memory/head-cache.ts';
import { layerContextTokens } from '../model/ledger.ts';
import type { ExtraPass, Work } from '../policy/policy.ts';
import { ProgramBuilder } from '../program/builder.ts';
import type { AttendOperation, CodedKv, Gemm, Share, TierBytes } from '../program/operation.ts';
import { copyIn, namedByHost, type Rows } from './copy-in.ts';
import { type LayerDemand, scaleCall } from './demand.ts';
import type { LoweringInput } from './lowering-input.ts';

const scaled = (bytes: TierBytes | undefined, factor: number): TierBytes =>
  Object.fromEntries(Object.entries(bytes ?? {}).map(([tier, value]) => [tier, value * factor]));

const withWeights = (bytes: TierBytes, weightBytes = 0): TierBytes =>
  weightBytes === 0 ? bytes : { ...bytes, hbm: (bytes.hbm ?? 0) + weightBytes };

const LARGEST_PAGE = 64;

/** Tokens of a page in which copied rows can be addressed: of the powers of two the largest that divides them. */
const pageOf = (rowTokens: number): number =>
  rowTokens === Infinity ? LARGEST_PAGE : Math.min(LARGEST_PAGE, rowTokens & -rowTokens);

export class Emitter {
  readonly builder = new ProgramBuilder();
  private readonly input: LoweringInput;

  constructor(input: LoweringInput) {
    this.input = input;
  }

  dense(part: string, gemms: readonly Gemm[]): void {
    if (!this.input.dense) return;
    const elementBytes = this.input.model.weightElementBytes;
    this.builder.add({ kind: 'dense', part, gemms, elementBytes, stream: 'compute', after: [] });
  }

  append(tokens: number): number {
    const { model, forms } = this.input;
    const bytes = tokens * model.kvHeads * (forms[0].kBytesPerToken + forms[0].vBytesPerToken);
    return this.builder.add({ kind: 'append', bytes, stream: 'compute', after: [] });
  }

  /** `attended`: keys that a query sees on average where the policy's prefill is sparse; 0 = causal. */
  prefillAttention(layer: number, attended: number): void {
    const { model, batch, promptTokens, forms } = this.input;
    const keys = layerContextTokens(model, layer, promptTokens);
    // Causal: a query sees half of the prompt on average, or its window once the prompt is longer.
    const causal = keys < promptTokens ? keys - (keys * keys) / (2 * promptTokens) : promptTokens / 2;
    const seen = attended > 0 ? attended : causal;
    const kvBytes =
      batch * model.kvHeads * promptTokens * (forms[0].kBytesPerToken + forms[0].vBytesPerToken);
    this.builder.add({
      kind: 'attend',
      sequences: batch,
      queries: promptTokens,
      contextTokens: promptTokens,
      heads: model.heads,
      kvHeads: model.kvHeads,
      headDim: model.headDim,
      readBytes: { hbm: kvBytes },
      flops: 2 * model.heads * (model.headDim + model.valueHeadDim) * batch * promptTokens * seen,
      where: 'gpu',
      stream: 'compute',
      after: [],
    });
  }

  /** Attention of tokens that go through the model beside the prompt; each sees all of its context. */
  passAttention(layer: number, { tokens, contextTokens }: ExtraPass): number {
    const { model, batch, forms } = this.input;
    const seen = layerContextTokens(model, layer, contextTokens);
    const rowBytes = forms[0].kBytesPerToken + forms[0].vBytesPerToken;
    return this.builder.add({
      kind: 'attend',
      sequences: batch,
      queries: tokens,
      contextTokens: seen,
      heads: model.heads,
      kvHeads: model.kvHeads,
      headDim: model.headDim,
      readBytes: { hbm: batch * model.kvHeads * seen * rowBytes },
      flops: 2 * model.heads * (model.headDim + model.valueHeadDim) * batch * tokens * seen,
      where: 'gpu',
      stream: 'compute',
      after: [],
    });
  }

  /**
   * Attention of one query token a sequence over tokens in HBM, or in DRAM on the CPU, by stored form (per KV head).
   * `copied`: some of them have crossed the link in rows.
   */
  attend(
    contextTokens: number,
    tokens: readonly number[],
    after: readonly number[],
    covers: NonNullable<AttendOperation['covers']>,
    where: 'gpu' | 'cpu' = 'gpu',
    copied = where === 'gpu' && !covers.resident,
  ): number {
    const { model, batch, forms, policy } = this.input;
    const rows = model.kvHeads * batch;
    const all = tokens.reduce((sum, count) => sum + count);
    let bytes = 0;
    let flops = 2 * model.heads * (model.headDim + model.valueHeadDim) * batch * contextTokens;
    const coded: CodedKv[] = []; // decoded inside the attention kernel
    let ready = after;
    tokens.forEach((count, form) => {
      const { name, isRebuilt = false } = forms[form];
      const isUnpacked = form > 0 && count > 0 && policy.codecs[form - 1].unpacking !== undefined;
      const { kBytesPerToken, vBytesPerToken } = forms[isRebuilt || isUnpacked ? 0 : form];
      const own = rows * count * (kBytesPerToken + vBytesPerToken);
      bytes += own;
      if (isUnpacked) ready = [this.unpack(form, rows * count, ready)];
      if (form === 0 || isRebuilt || isUnpacked || count === 0) return;
      const decodeFlops = rows * count * policy.codecs[form - 1].decodeFlopsPerToken(model.headDim);
      flops += decodeFlops;
      coded.push({ codec: name, bytes: own, share: count / all, decodeFlops });
    });
    return this.builder.add({
      kind: 'attend',
      sequences: batch,
      queries: 1,
      contextTokens,
      heads: model.heads,
      kvHeads: model.kvHeads,
      headDim: model.headDim,
      readBytes: where === 'gpu' ? { hbm: bytes } : { dram: bytes },
      flops,
      where,
      ...(copied ? { pageTokens: pageOf(policy.transfer.rowTokens) } : {}),
      ...(coded.length > 0 ? { coded } : {}),
      covers,
      stream: where === 'gpu' ? 'compute' : 'cpu',
      after: ready,
    });
  }

  /** Decodes `tokens` tokens of one KV head in passes of their own. */
  private unpack(form: number, tokens: number, after: readonly number[]): number {
    const { model, policy } = this.input;
    const codec = policy.codecs[form - 1];
    const { readBytesPerToken = 0, writeBytesPerToken = 0 } = codec.unpacking ?? {};
    return this.builder.add({
      kind: 'decode',
      codec: codec.name,
      inBytes: tokens * readBytesPerToken,
      outBytes: tokens * writeBytesPerToken,
      flops: tokens * codec.decodeFlopsPerToken(model.headDim),
      stream: 'compute',
      after,
    });
  }

  /** Log-sum-exp merge of `parts` partial outputs in float32. */
  merge(parts: number, after: readonly number[]): number {
    const { heads, valueHeadDim } = this.input.model;
    const bytes = parts * heads * (valueHeadDim + 2) * 4 * this.input.batch;
    return this.builder.add({ kind: 'merge', parts, bytes, stream: 'compute', after });
  }

  /** The step's queries go to the CPU. */
  queriesOut(appended: number): number {
    const { model, batch, elementBytes } = this.input;
    const rowBytes = model.heads * model.headDim * elementBytes;
    const copy = { kind: 'spill', from: 'hbm', to: 'dram', rows: batch, rowBytes, mode: 'dma' } as const;
    return this.builder.add({ ...copy, stream: 'd2h', after: [appended] });
  }

  /** Outputs of attention on the CPU come back, with one float32 log-sum-exp a query head. */
  outputsIn(attended: number): number {
    const { model, batch, elementBytes } = this.input;
    const rowBytes = model.heads * (model.valueHeadDim * elementBytes + 4);
    const copy = { kind: 'fetch', from: 'dram', to: 'hbm', rows: batch, rowBytes, mode: 'dma' } as const;
    return this.builder.add({ ...copy, stream: 'h2d', after: [attended] });
  }

  /** Declared work on `tokens` tokens; returns its id. */
  score(work: Work, tokens: number, after: readonly number[]): number {
    const factor = this.input.model.kvHeads * this.input.batch * tokens;
    const where = work.where ?? 'gpu';
    if (where === 'h2d' || where === 'd2h') {
      const rows = Math.max(1, work.kernels);
      const bytes = (work.readBytes[where === 'h2d' ? 'dram' : 'hbm'] ?? 0) * factor;
      const copy = { rows, rowBytes: bytes / rows, mode: 'dma', after } as const;
      return where === 'h2d'
        ? this.builder.add({ kind: 'fetch', from: 'dram', to: 'hbm', ...copy, stream: where })
        : this.builder.add({ kind: 'spill', from: 'hbm', to: 'dram', ...copy, stream: where });
    }
    return this.builder.add({
      kind: 'score',
      index: work.index,
      readBytes: withWeights(scaled(work.readBytes, factor), work.weightBytes),
      writeBytes: scaled(work.writeBytes, factor),
      flops: work.flops * factor,
      ...(work.matrixFlops === undefined ? {} : { matrixFlops: work.matrixFlops * factor }),
      kernels: work.kernels,
      rows: factor / tokens,
      heads: this.input.model.heads / this.input.model.kvHeads,
      where,
      ...(work.laysOut === true ? { laysOut: true } : {}),
      ...(work.call === undefined ? {} : { call: scaleCall(work.call, tokens) }),
      stream: where === 'gpu' ? 'compute' : 'cpu',
      after,
    });
  }

  /** Chosen rows from DRAM, by stored form; `share` = which part of the choice they are. */
  fetch({ fetchTokens, fetchPieces }: LayerDemand, share: Share, after: readonly number[]): number[] {
    const part = share[1] - share[0];
    return fetchTokens.flatMap((tokens, form) => {
      if (tokens <= 0) return [];
      const copy = copyIn(this.input, { tokens, form, pieces: fetchPieces[form] }, part);
      const awaits = namedByHost(this.input.policy.transfer) ? { awaitsChoice: true } : {};
      return [this.builder.add({ ...copy, ...awaits, chosen: { form, share }, after })];
    });
  }

  /** Rows from DRAM into a cache, `tokens` by stored form. */
  refill(counts: readonly number[], after: readonly number[]): number[] {
    return counts.flatMap((tokens, form) =>
      tokens > 0 ? [this.builder.add({ ...copyIn(this.input, { tokens, form, pieces: 0 }, 1), after })] : [],
    );
  }

  /** Reads tokens from NVMe into DRAM, by stored form; a sequence's part of a layer lies in one piece. */
  load(tokens: readonly number[], after: readonly number[]): number[] {
    const ids: number[] = [];
    tokens.forEach((count, form) => {
      if (count <= 0) return;
      const hop = { kind: 'fetch', from: 'nvme', to: 'dram', mode: 'dma', stream: 'nvme' } as const;
      ids.push(this.builder.add({ ...hop, ...this.wholeRows(count, form), after }));
    });
    return ids;
  }

  /** Writes tokens from DRAM to NVMe, each form after its own copy out of HBM where there is one. */
  private store(tokens: readonly number[], spilled: readonly (number | undefined)[], ready: number): void {
    tokens.forEach((count, form) => {
      if (count <= 0) return;
      const hop = { kind: 'spill', from: 'dram', to: 'nvme', mode: 'dma', stream: 'nvme' } as const;
      this.builder.add({ ...hop, ...this.wholeRows(count, form), after: [spilled[form] ?? ready] });
    });
  }

  /** One row a sequence: all of these tokens, of all KV heads. */
  private wholeRows(tokens: number, form: number): Rows {
    const { forms, model, batch } = this.input;
    const perToken = forms[form].kBytesPerToken + forms[form].vBytesPerToken;
    return { rows: batch, rowBytes: tokens * model.kvHeads * perToken };
  }

  /** Codes and copies out what left HBM in this step; runs behind the layer's own work. */
  spill(demand: LayerDemand, appended: number): number[] {
    const { forms, model, batch, policy } = this.input;
    const heads = model.kvHeads * batch;
    let ready = appended;
    demand.encodeTokens.forEach((tokens, form) => {
      if (tokens === 0) return;
      const { keeps } = policy.codecs[form - 1];
      const codedBytes = ({ kBytesPerToken, vBytesPerToken }: StoredForm): number =>
        (keeps === 'keys' ? 0 : kBytesPerToken) + (keeps === 'values' ? 0 : vBytesPerToken);
      const outBytes = tokens * heads * codedBytes(forms[form]);
      const inBytes = tokens * heads * codedBytes(forms[0]);
      const flops = tokens * heads * policy.codecs[form - 1].decodeFlopsPerToken(model.headDim);
      ready = this.builder.add({
        kind: 'encode',
        codec: forms[form].name,
        ...(keeps === undefined ? {} : { half: keeps === 'keys' ? 'values' : 'keys' }),
        inBytes,
        outBytes,
        flops,
        stream: 'compute',
        after: [],
      });
    });
    const mode = policy.transfer.mode === 'uva' ? 'dma' : policy.transfer.mode;
    const spilled = demand.spillTokens.map((tokens, form) => {
      if (tokens === 0) return undefined;
      // A burst out is one contiguous piece a layer: staging gathers it in HBM first.
      const hop = { kind: 'spill', from: 'hbm', to: 'dram', mode, stream: 'd2h' } as const;
      return this.builder.add({ ...hop, ...this.wholeRows(tokens, form), after: [ready] });
    });
    this.store(demand.storeTokens, spilled, ready);
    return spilled.filter((id) => id !== undefined);
  }
}
