/**
 * Lowering: the demands of a policy in one step become a program. One mechanism for all policies; what differs is
 * data (where the tokens lie, how they cross the link, whether copies run ahead), never a special case by name.
 */
import { adapterGemms, attentionInputGemms, headGemms, outputAndMlpGemms } from '../model/gemms.ts';
import { layerContextTokens } from '../model/ledger.ts';
import type { ExtraPass, TopK } from '../policy/policy.ts';
import type { Gemm } from '../program/operation.ts';
import type { LayerDemand } from './demand.ts';
import { Emitter, type LoweringInput } from './emitter.ts';

/** What one layer is asked in one step; null where the layer attends densely (or within its sliding window). */
export interface LayerStep {
  readonly append: LayerDemand;
  readonly choice: LayerDemand;
}

export interface LayerPrefill {
  readonly demand: LayerDemand;
}

const sumOf = (tokens: readonly number[]): number => tokens.reduce((a, b) => a + b, 0);

/** Tokens that cross into HBM for a layer, by stored form. */
const fetchedIn = ({ append, choice }: LayerStep): readonly number[] =>
  choice.fetchTokens.map((tokens, form) => tokens + append.fetchTokens[form]);

export class Lowering {
  private readonly emit: Emitter;
  private readonly input: LoweringInput;
  /** Ids of the attention that last read each layer's buffer, in the order of layers over all steps. */
  private readonly attends: number[] = [];
  /** Per layer, the last operation of its attention in the step at hand: what it chose for others is known then. */
  private readonly known: number[] = [];
  /** Ids of the attentions over streamed pieces, over all layers and steps: each frees a staging buffer. */
  private readonly pieces: number[] = [];
  /** Id of the operation that last wrote a layer's new rows while the prompt was read. */
  private appended = 0;
  /** The prompt's last copy out; the first copy in waits for it, all others follow that one in order. */
  private copiedOut: readonly number[] = [];

  constructor(input: LoweringInput) {
    this.input = input;
    this.emit = new Emitter(input);
  }

  /** Program of decode step `step` (0-based); `layers[l]` null = dense attention in HBM. */
  step(step: number, layers: readonly (LayerStep | null)[]) {
    const { model, batch, promptTokens, policy } = this.input;
    const lead = policy.transfer.leadLayers ?? 0;
    /** Per layer, the copies that an earlier layer started for it. */
    const ahead: (readonly number[] | undefined)[] = [];
    layers.forEach((demand, layer) => {
      this.emit.builder.setLayer(layer);
      this.emit.dense('attention-input', attentionInputGemms(model, batch, model.weightElementBytes));
      const appended = this.emit.append(batch);
      const later = lead > 0 ? layers[layer + lead] : undefined;
      if (later) {
        this.emit.builder.setLayer(layer + lead);
        ahead[layer + lead] = this.fetch(fetchedIn(later), 1, [this.choose(later.choice, appended)]);
        this.emit.builder.setLayer(layer);
      }
      if (demand === null)
        this.attendHbm(layer, layerContextTokens(model, layer, promptTokens + step + 1), appended);
      else this.policyLayer(layer, demand, appended, ahead[layer]);
      this.known[layer] = this.emit.builder.lastId;
      this.emit.dense('output-mlp', outputAndMlpGemms(model, layer, batch, model.weightElementBytes));
    });
    this.outputHead();
    return this.emit.builder.take();
  }

  /** Program of the whole prompt, one layer after the other, and of the passes that a policy adds to it. */
  prefill(layers: readonly (LayerPrefill | null)[]) {
    const { promptTokens, policy } = this.input;
    const { extraPass } = policy;
    const passes = extraPass?.passes ?? 0;
    const riders = passes === 0 ? extraPass : null;
    layers.forEach((layerPrefill, layer) => {
      this.forward(layer, promptTokens, riders, () => {
        this.emit.prefillAttention(layer, layerPrefill?.demand.attendTokens ?? 0);
        if (riders !== null) this.emit.passAttention(layer, riders);
        if (passes === 0) this.place(layerPrefill, promptTokens, true);
      });
    });
    for (let pass = 1; extraPass !== null && pass <= passes; pass++) {
      layers.forEach((layerPrefill, layer) => {
        this.forward(layer, 0, extraPass, () => {
          this.emit.passAttention(layer, extraPass);
          this.place(layerPrefill, promptTokens / passes, pass === passes);
        });
      });
    }
    this.outputHead();
    return this.emit.builder.take();
  }

  /** One layer of tokens of the prompt (per sequence) and of an extra pass; `attend` stands between its products. */
  private forward(layer: number, promptTokens: number, extra: ExtraPass | null, attend: () => void): void {
    const { model, batch } = this.input;
    const elementBytes = model.weightElementBytes;
    const tokens = batch * (promptTokens + (extra?.tokens ?? 0));
    const dense = (part: string, gemms: readonly Gemm[]): void => {
      const rank = extra?.adapterRank ?? 0;
      const adapters =
        extra === null || rank === 0 ? [] : adapterGemms(gemms, batch * extra.tokens, rank, elementBytes);
      this.emit.dense(part, [...gemms, ...adapters]);
    };
    this.emit.builder.setLayer(layer);
    dense('attention-input', attentionInputGemms(model, tokens, elementBytes));
    this.appended = this.emit.append(tokens);
    attend();
    dense('output-mlp', outputAndMlpGemms(model, layer, tokens, elementBytes));
  }

  /** A policy's own work on `tokens` tokens of a layer's prompt, and what leaves HBM when it is `done`. */
  private place(layerPrefill: LayerPrefill | null, tokens: number, done: boolean): void {
    const { policy } = this.input;
    if (layerPrefill === null) return;
    for (const work of policy.prefillWork) this.emit.score(work, tokens);
    if (!done) return;
    const spilled = this.emit.spill(layerPrefill.demand, this.appended);
    this.copiedOut = spilled.length > 0 ? spilled : this.copiedOut;
    if (policy.prefillWaits && spilled.length > 0)
      this.emit.builder.add({ kind: 'wait', stream: 'compute', after: spilled });
  }

  private outputHead(): void {
    const { model, batch } = this.input;
    this.emit.builder.setLayer(-1);
    this.emit.dense('output-head', headGemms(model, batch, model.weightElementBytes));
  }

  private attendHbm(layer: number, tokens: number, appended: number): void {
    const raw = this.input.forms.map((_, form) => (form === 0 ? tokens : 0));
    this.attends.push(this.emit.attend(tokens, raw, [appended]));
    const extra = this.input.policy.denseWork(layer, tokens);
    if (extra === null) return;
    for (const work of extra.works) this.emit.score(work, 1);
    this.select(extra.topk);
  }

  private select({ of, k, rows }: TopK): number {
    return this.emit.builder.add({
      kind: 'select',
      rows: Math.max(1, Math.round(rows * this.input.model.kvHeads * this.input.batch)),
      of: Math.round(of),
      k: Math.round(k),
      stream: 'compute',
      after: [],
    });
  }

  private policyLayer(
    layer: number,
    layerStep: LayerStep,
    appended: number,
    ahead: readonly number[] | undefined,
  ): void {
    const { append, choice } = layerStep;
    const { overlap, attendAt } = this.input.policy.transfer;
    for (const work of append.works) this.emit.score(work, 1);
    this.emit.spill(append, appended);
    this.emit.spill(choice, appended);
    const fetched = fetchedIn(layerStep);
    if (ahead !== undefined) {
      this.attendAfter(choice, fetched, ahead);
      return;
    }
    const asked = attendAt === 'cpu' ? this.emit.queriesOut(appended) : appended;
    const chosen = this.choose(choice, asked);
    if (sumOf(fetched) === 0) this.attendAfter(choice, fetched, []);
    else if (attendAt === 'cpu') this.attendOnHost(choice, fetched, asked);
    else if (overlap === 'stream') this.streamed(choice, fetched, chosen);
    else this.fetchThenAttend(layer, choice, fetched, chosen);
  }

  /** The declared work of a choice; returns the operation that ends it. */
  private choose(choice: LayerDemand, asked: number): number {
    for (const work of choice.works) this.emit.score(work, 1, [asked]);
    let chosen = asked;
    for (const topk of choice.topks) chosen = this.select(topk);
    return choice.works.length > 0 && choice.topks.length === 0 ? this.emit.builder.lastId : chosen;
  }

  private fetch(tokens: readonly number[], share: number, after: readonly number[]): number[] {
    const ids = this.emit.fetch(tokens, share, [...after, ...this.copiedOut]);
    this.copiedOut = [];
    return ids;
  }

  /** One copy, then one attention over everything; with overlap 'ahead' the copy waits for a free buffer and a known choice only. */
  private fetchThenAttend(
    layer: number,
    choice: LayerDemand,
    fetched: readonly number[],
    chosen: number,
  ): void {
    const { policy } = this.input;
    const { overlap, buffers = 1 } = policy.transfer;
    const freed = this.attends[this.attends.length - buffers];
    const choiceLayer = policy.choiceLayer(layer);
    const known = choiceLayer === null ? undefined : this.known[choiceLayer];
    const ahead = [freed, known].filter((id) => id !== undefined);
    const after = overlap === 'ahead' ? ahead : [chosen];
    this.attendAfter(choice, fetched, this.fetch(fetched, 1, after));
  }

  private attendAfter(choice: LayerDemand, fetched: readonly number[], copies: readonly number[]): void {
    const inHbm = choice.residentTokens.map((tokens, form) => tokens + fetched[form]);
    this.attends.push(this.emit.attend(choice.attendTokens, inHbm, copies));
  }

  /** The CPU attends what lies in DRAM while the GPU attends what it holds; the parts are merged on the GPU. */
  private attendOnHost(choice: LayerDemand, fetched: readonly number[], asked: number): void {
    const resident = sumOf(choice.residentTokens);
    const far = sumOf(fetched);
    const perToken = choice.attendTokens / (resident + far);
    const answered = this.emit.outputsIn(this.emit.attend(far * perToken, fetched, [asked], 'cpu'));
    if (resident > 0) this.emit.attend(resident * perToken, choice.residentTokens, []);
    this.attends.push(this.emit.merge(resident > 0 ? 2 : 1, [answered]));
  }

  /** Copies in pieces through staging buffers; attention over what is resident, and over each piece, meanwhile. */
  private streamed(choice: LayerDemand, fetched: readonly number[], chosen: number): void {
    const { chunks = 1, buffers = 2, speculative = false } = this.input.policy.transfer;
    const resident = sumOf(choice.residentTokens);
    const total = sumOf(fetched);
    const perToken = choice.attendTokens / (resident + total);
    const piece = fetched.map((tokens) => tokens / chunks);
    const base = this.pieces.length;
    const copies: number[][] = [];
    const copyWhereFree = (): void => {
      // A piece goes into the buffer that the piece `buffers` before it has left.
      while (copies.length < chunks && base + copies.length - buffers < this.pieces.length) {
        const freed = this.pieces[base + copies.length - buffers];
        const after = [...(speculative ? [] : [chosen]), ...(freed === undefined ? [] : [freed])];
        copies.push(this.fetch(fetched, 1 / chunks, after));
      }
    };
    copyWhereFree();
    let parts = chunks;
    if (resident > 0) {
      this.emit.attend(resident * perToken, choice.residentTokens, []);
      parts++;
    }
    for (let chunk = 0; chunk < chunks; chunk++) {
      this.pieces.push(this.emit.attend((total / chunks) * perToken, piece, copies[chunk]));
      copyWhereFree();
    }
    this.attends.push(this.emit.merge(parts, []));
  }
}
