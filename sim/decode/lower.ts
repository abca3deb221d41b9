/**
 * Lowering: the demands of a policy in one step become a program. One mechanism for all policies; what differs is
 * data (where the tokens lie, how they cross the link, whether copies run ahead), never a special case by name.
 */
import { attentionInputGemms, headGemms, outputAndMlpGemms } from '../model/gemms.ts';
import { layerContextTokens } from '../model/ledger.ts';
import type { ModelShape } from '../model/shape.ts';
import type { StoredForm } from '../memory/head-cache.ts';
import type { Policy, Work } from '../policy/policy.ts';
import { ProgramBuilder } from '../program/builder.ts';
import type { StreamName, TierBytes } from '../program/operation.ts';
import type { LayerDemand } from './demand.ts';

export interface LoweringInput {
  readonly model: ModelShape;
  readonly policy: Policy;
  readonly forms: readonly StoredForm[];
  readonly batch: number;
  readonly promptTokens: number;
  /** Bytes of one activation or KV element. */
  readonly elementBytes: number;
  /** False leaves out projections, MLP and output head. */
  readonly dense: boolean;
}

/** What one layer is asked in one step; null where the layer attends densely (or within its sliding window). */
export interface LayerStep {
  readonly append: LayerDemand;
  readonly choice: LayerDemand;
}

export interface LayerPrefill {
  readonly demand: LayerDemand;
}

interface Rows {
  readonly rows: number;
  readonly rowBytes: number;
}

const scaled = (bytes: TierBytes | undefined, factor: number): TierBytes =>
  Object.fromEntries(Object.entries(bytes ?? {}).map(([tier, value]) => [tier, value * factor]));

export class Lowering {
  readonly builder = new ProgramBuilder();
  private readonly input: LoweringInput;
  /** Ids of the attention that last read each layer's buffer, in the order of layers over all steps. */
  private readonly attends: number[] = [];

  constructor(input: LoweringInput) {
    this.input = input;
  }

  /** Program of decode step `step` (0-based); `layers[l]` null = dense attention in HBM. */
  step(step: number, layers: readonly (LayerStep | null)[]) {
    const { model, batch, promptTokens, dense, elementBytes } = this.input;
    layers.forEach((demand, layer) => {
      this.builder.setLayer(layer);
      if (dense) this.dense('attention-input', attentionInputGemms(model, batch, elementBytes));
      const appended = this.append(batch);
      if (demand === null) this.attendHbm(layerContextTokens(model, layer, promptTokens + step + 1), appended);
      else this.policyLayer(demand, appended);
      if (dense) this.dense('output-mlp', outputAndMlpGemms(model, layer, batch, elementBytes));
    });
    this.outputHead();
    return this.builder.take();
  }

  /** Program of the whole prompt, one layer after the other. */
  prefill(layers: readonly (LayerPrefill | null)[]) {
    const { model, batch, promptTokens, dense, elementBytes, policy } = this.input;
    layers.forEach((layerPrefill, layer) => {
      this.builder.setLayer(layer);
      const tokens = batch * promptTokens;
      if (dense) this.dense('attention-input', attentionInputGemms(model, tokens, elementBytes));
      const appended = this.append(tokens);
      this.prefillAttention(layer);
      if (layerPrefill !== null) {
        for (const work of policy.prefillWork) this.score(work, promptTokens);
        const spilled = this.spill(layerPrefill.demand, appended);
        if (policy.prefillWaits && spilled.length > 0) this.builder.add({ kind: 'wait', stream: 'compute', after: spilled });
      }
      if (dense) this.dense('output-mlp', outputAndMlpGemms(model, layer, tokens, elementBytes));
    });
    this.outputHead();
    return this.builder.take();
  }

  private outputHead(): void {
    const { model, batch, dense, elementBytes } = this.input;
    this.builder.setLayer(-1);
    if (dense) this.dense('output-head', headGemms(model, batch, elementBytes));
  }

  private dense(part: string, gemms: ReturnType<typeof headGemms>): void {
    this.builder.add({ kind: 'dense', part, gemms, elementBytes: this.input.elementBytes, stream: 'compute', after: [] });
  }

  private append(tokens: number): number {
    const { model, forms } = this.input;
    const bytes = tokens * model.kvHeads * (forms[0].kBytesPerToken + forms[0].vBytesPerToken);
    return this.builder.add({ kind: 'append', bytes, stream: 'compute', after: [] });
  }

  private prefillAttention(layer: number): void {
    const { model, batch, promptTokens, forms } = this.input;
    const keys = layerContextTokens(model, layer, promptTokens);
    // Causal: a query sees half of the prompt on average, or its window once the prompt is longer.
    const seen = keys < promptTokens ? keys - (keys * keys) / (2 * promptTokens) : promptTokens / 2;
    const kvBytes = batch * model.kvHeads * promptTokens * (forms[0].kBytesPerToken + forms[0].vBytesPerToken);
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

  private attendHbm(tokens: number, appended: number): void {
    const raw = this.input.forms.map((_, form) => (form === 0 ? tokens : 0));
    this.attends.push(this.attend(tokens, raw, [appended]));
  }

  private policyLayer({ append, choice }: LayerStep, appended: number): void {
    const { policy } = this.input;
    this.spill(append, appended);
    for (const work of choice.works) this.score(work, 1);
    let chosen = appended;
    for (const { of, k, rows } of choice.topks) {
      const all = Math.max(1, Math.round(rows * this.input.model.kvHeads * this.input.batch));
      chosen = this.builder.add({ kind: 'select', rows: all, of: Math.round(of), k: Math.round(k), stream: 'compute', after: [] });
    }
    if (choice.works.length > 0 && choice.topks.length === 0) chosen = this.builder.lastId;
    const fetched = choice.fetchTokens.map((tokens, form) => tokens + append.fetchTokens[form]);
    const total = fetched.reduce((a, b) => a + b, 0);
    if (total === 0) {
      this.attends.push(this.attend(choice.attendTokens, choice.residentTokens, []));
      return;
    }
    if (policy.transfer.overlap === 'stream') this.streamed(choice, fetched, chosen);
    else this.fetchThenAttend(choice, fetched, chosen);
    this.spill({ ...choice, encodeTokens: [] }, appended);
  }

  /** One copy, then one attention over everything; with overlap 'ahead' the copy waits for a free buffer only. */
  private fetchThenAttend(choice: LayerDemand, fetched: readonly number[], chosen: number): void {
    const { overlap, buffers = 1 } = this.input.policy.transfer;
    const freed = this.attends[this.attends.length - buffers];
    const after = overlap === 'ahead' ? (freed === undefined ? [] : [freed]) : [chosen];
    const copies = this.fetch(fetched, 1, after);
    const inHbm = choice.residentTokens.map((tokens, form) => tokens + fetched[form]);
    this.attends.push(this.attend(choice.attendTokens, inHbm, copies));
  }

  /** Copies in pieces through two staging buffers; attention over what is resident, and over each piece, meanwhile. */
  private streamed(choice: LayerDemand, fetched: readonly number[], chosen: number): void {
    const chunks = this.input.policy.transfer.chunks ?? 1;
    const resident = choice.residentTokens.reduce((a, b) => a + b, 0);
    const total = fetched.reduce((a, b) => a + b, 0);
    const parts: number[] = [];
    const copies: number[][] = [];
    for (let chunk = 0; chunk < Math.min(2, chunks); chunk++) copies.push(this.fetch(fetched, 1 / chunks, [chosen]));
    const perToken = choice.attendTokens / (resident + total);
    if (resident > 0) parts.push(this.attend(resident * perToken, choice.residentTokens, []));
    for (let chunk = 0; chunk < chunks; chunk++) {
      const piece = fetched.map((tokens) => tokens / chunks);
      const id = this.attend((total / chunks) * perToken, piece, copies[chunk]);
      parts.push(id);
      // The piece just attended frees its staging buffer for the next but one.
      if (copies.length < chunks) copies.push(this.fetch(fetched, 1 / chunks, [chosen, id]));
    }
    const { heads, valueHeadDim } = this.input.model;
    const bytes = parts.length * heads * (valueHeadDim + 2) * 4 * this.input.batch;
    this.attends.push(this.builder.add({ kind: 'merge', parts: parts.length, bytes, stream: 'compute', after: [] }));
  }

  /** Attention of one query token a sequence over tokens in HBM, by stored form (per KV head). */
  private attend(contextTokens: number, tokens: readonly number[], after: readonly number[]): number {
    const { model, batch, forms, policy } = this.input;
    const rows = model.kvHeads * batch;
    let bytes = 0;
    let flops = 2 * model.heads * (model.headDim + model.valueHeadDim) * batch * contextTokens;
    tokens.forEach((count, form) => {
      bytes += rows * count * (forms[form].kBytesPerToken + forms[form].vBytesPerToken);
      // Coded KV is decoded inside the attention kernel.
      if (form > 0) flops += rows * count * policy.codecs[form - 1].decodeFlopsPerToken(model.headDim);
    });
    return this.builder.add({
      kind: 'attend',
      sequences: batch,
      queries: 1,
      contextTokens,
      heads: model.heads,
      kvHeads: model.kvHeads,
      headDim: model.headDim,
      readBytes: { hbm: bytes },
      flops,
      where: 'gpu',
      stream: 'compute',
      after,
    });
  }

  private score(work: Work, tokens: number): void {
    const factor = this.input.model.kvHeads * this.input.batch * tokens;
    const where = work.where ?? 'gpu';
    this.builder.add({
      kind: 'score',
      index: work.index,
      readBytes: scaled(work.readBytes, factor),
      writeBytes: scaled(work.writeBytes, factor),
      flops: work.flops * factor,
      kernels: work.kernels,
      where,
      stream: where === 'gpu' ? 'compute' : 'cpu',
      after: [],
    });
  }

  /** Rows of `tokens` tokens (per KV head, one form) as they lie in the slower tier, for the whole batch. */
  private rowsOf(tokens: number, form: number): Rows {
    const { model, forms, policy, batch } = this.input;
    const { rowTokens, joinHeads, joinKv } = policy.transfer;
    const perToken = forms[form].kBytesPerToken + forms[form].vBytesPerToken;
    const bytes = tokens * perToken * model.kvHeads * batch;
    const ideal = rowTokens === Infinity ? bytes / batch : rowTokens * perToken * (joinHeads ? model.kvHeads : 1) * (joinKv ? 1 : 0.5);
    const rows = Math.max(1, Math.round(bytes / ideal));
    return { rows, rowBytes: bytes / rows };
  }

  private fetch(tokens: readonly number[], share: number, after: readonly number[]): number[] {
    const { mode } = this.input.policy.transfer;
    const stream: StreamName = mode === 'uva' ? 'compute' : 'h2d';
    const ids: number[] = [];
    tokens.forEach((count, form) => {
      if (count <= 0) return;
      ids.push(this.builder.add({ kind: 'fetch', from: 'dram', to: 'hbm', ...this.rowsOf(count * share, form), mode, stream, after }));
    });
    return ids;
  }

  /** Codes and copies out what left HBM in this step; runs behind the layer's own work. */
  private spill(demand: LayerDemand, appended: number): number[] {
    const { forms, model, batch, policy } = this.input;
    const rawBytes = forms[0].kBytesPerToken + forms[0].vBytesPerToken;
    const heads = model.kvHeads * batch;
    let ready = appended;
    demand.encodeTokens.forEach((tokens, form) => {
      if (tokens === 0) return;
      const outBytes = tokens * heads * (forms[form].kBytesPerToken + forms[form].vBytesPerToken);
      const inBytes = tokens * heads * rawBytes;
      const flops = tokens * heads * policy.codecs[form - 1].decodeFlopsPerToken(model.headDim);
      ready = this.builder.add({ kind: 'encode', codec: forms[form].name, inBytes, outBytes, flops, stream: 'compute', after: [] });
    });
    const ids: number[] = [];
    demand.spillTokens.forEach((tokens, form) => {
      if (tokens === 0) return;
      const mode = policy.transfer.mode === 'uva' ? 'dma' : policy.transfer.mode;
      // A burst out is one contiguous piece a layer: staging gathers it in HBM first.
      const bytes = tokens * heads * (forms[form].kBytesPerToken + forms[form].vBytesPerToken);
      ids.push(this.builder.add({ kind: 'spill', from: 'hbm', to: 'dram', rows: batch, rowBytes: bytes / batch, mode, stream: 'd2h', after: [ready] }));
    });
    return ids;
  }
}
