/**
 * Lowering: the demands of a policy in one step become a program. One mechanism for all policies; what differs is
 * data (where the tokens lie, how they cross the link, whether copies run ahead), never a special case by name.
 */
import { adapterGemms, attentionInputGemms, headGemms, outputAndMlpGemms } from '../model/gemms.ts';
import { layerContextTokens } from '../model/ledger.ts';
import type { ExtraPass, TopK, Work } from '../policy/policy.ts';
import type { Gemm, Share } from '../program/operation.ts';
import type { LayerDemand } from './demand.ts';
import { Emitter } from './emitter.ts';
import type { LoweringInput } from './lowering-input.ts';

/** What one layer is asked in one step; null where the layer attends densely (or within its sliding window). */
export interface LayerStep {
  readonly append: LayerDemand;
  readonly choice: LayerDemand;
}

export interface LayerPrefill {
  readonly demand: LayerDemand;
}

/** An operation of declared work, and where it runs. */
interface Declared {
  readonly id: number;
  readonly where: NonNullable<Work['where']>;
}

const WHOLE: Share = [0, 1];
const RESIDENT = { resident: true, far: [0, 0] } as const;
const EVERYTHING = { resident: true, far: WHOLE } as const;

const sumOf = (tokens: readonly number[]): number => tokens.reduce((a, b) => a + b, 0);

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
      this.emit.dense('attention-input', attentionInputGemms(model, batch));
      const appended = this.emit.append(batch);
      const later = lead > 0 ? layers[layer + lead] : undefined;
      if (later) {
        this.emit.builder.setLayer(layer + lead);
        const { id } = this.choose(later.choice, appended);
        const loaded = this.emit.load(later.choice.loadTokens, [id]);
        ahead[layer + lead] = this.fetch(later.choice, WHOLE, [id, ...loaded]);
        this.emit.builder.setLayer(layer);
      }
      if (demand === null)
        this.attendHbm(layer, layerContextTokens(model, layer, promptTokens + step + 1), appended);
      else this.policyLayer(layer, demand, appended, ahead[layer]);
      this.known[layer] = this.emit.builder.lastId;
      this.emit.dense('output-mlp', outputAndMlpGemms(model, layer, batch));
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
    const passed = batch * (extra?.tokens ?? 0);
    const tokens = batch * promptTokens + passed;
    const dense = (part: string, gemms: readonly Gemm[]): void => {
      const rank = extra?.adapterRank ?? 0;
      const adapters = rank === 0 ? [] : adapterGemms(gemms, passed, rank, model.weightElementBytes);
      this.emit.dense(part, [...gemms, ...adapters]);
    };
    this.emit.builder.setLayer(layer);
    dense('attention-input', attentionInputGemms(model, tokens));
    this.appended = this.emit.append(tokens);
    attend();
    dense('output-mlp', outputAndMlpGemms(model, layer, tokens));
  }

  /** A policy's own work on `tokens` tokens of a layer's prompt, and what leaves HBM when it is `done`. */
  private place(layerPrefill: LayerPrefill | null, tokens: number, done: boolean): void {
    const { policy } = this.input;
    if (layerPrefill === null) return;
    this.works(policy.prefillWork, tokens, { id: this.appended, where: 'gpu' });
    if (!done) return;
    const spilled = this.emit.spill(layerPrefill.demand, this.appended);
    this.copiedOut = spilled.length > 0 ? spilled : this.copiedOut;
    this.awaitSpills(spilled);
  }

  private awaitSpills(spilled: readonly number[]): void {
    if (this.input.policy.waitsForSpills && spilled.length > 0)
      this.emit.builder.add({ kind: 'wait', stream: 'compute', after: spilled });
  }

  private outputHead(): void {
    const { model, batch } = this.input;
    this.emit.builder.setLayer(-1);
    this.emit.dense('output-head', headGemms(model, batch));
  }

  private attendHbm(layer: number, tokens: number, appended: number): void {
    const attendTo = (count: number): void => {
      const raw = this.input.forms.map((_, form) => (form === 0 ? count : 0));
      this.attends.push(this.emit.attend(count, raw, [appended], RESIDENT));
    };
    const extra = this.input.policy.denseWork(layer, tokens);
    if (extra?.attendTokens === undefined) attendTo(tokens);
    if (extra === null) return;
    this.works(extra.works, 1, { id: appended, where: 'gpu' });
    this.select(extra.topk, []);
    if (extra.attendTokens !== undefined) attendTo(extra.attendTokens);
  }

  private select({ of, k, rows, keys }: TopK, after: readonly number[]): number {
    return this.emit.builder.add({
      kind: 'select',
      rows: Math.max(1, Math.round(rows * this.input.model.kvHeads * this.input.batch)),
      of: Math.round(of),
      k: Math.round(k),
      ...(keys === undefined ? {} : { keys }),
      stream: 'compute',
      after,
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
    this.works(append.works, 1, { id: appended, where: 'gpu' });
    this.awaitSpills(this.emit.spill(append, appended));
    this.emit.spill(choice, appended);
    // A cache's refill: attention waits for it, but reads of it only what it chose.
    const refills = append.refillTokens.map((tokens, form) => tokens + choice.refillTokens[form]);
    const refilled = this.copied(this.emit.load(append.loadTokens, [appended]), (after) =>
      this.emit.refill(refills, after),
    );
    if (ahead !== undefined) {
      this.attendAfter(choice, [...refilled, ...ahead]);
      return;
    }
    const asked = attendAt === 'cpu' ? this.emit.queriesOut(appended) : appended;
    const { id, isElsewhere } = this.choose(choice, asked);
    if (sumOf(choice.fetchTokens) === 0) {
      this.attendAfter(choice, isElsewhere ? [...refilled, id] : refilled);
      return;
    }
    const free = overlap === 'ahead' ? this.roomAndChoice(layer) : [id];
    const loaded = this.emit.load(choice.loadTokens, free);
    if (attendAt === 'cpu')
      this.attendOnHost(choice, refilled, [...(id === asked ? [id] : [asked, id]), ...loaded]);
    else if (overlap === 'stream') this.streamed(choice, refilled, [id, ...loaded]);
    else this.attendAfter(choice, [...refilled, ...this.fetch(choice, WHOLE, [...free, ...loaded])]);
  }

  /** With overlap 'ahead': what frees a buffer for the layer, and the end of the attention that its choice waits for. */
  private roomAndChoice(layer: number): readonly number[] {
    const { policy } = this.input;
    const { buffers = 1 } = policy.transfer;
    const freed = this.attends[this.attends.length - buffers];
    const choiceLayer = policy.choiceLayer(layer);
    const known = choiceLayer === null ? undefined : this.known[choiceLayer];
    return [freed, known].filter((id) => id !== undefined);
  }

  /** The declared work and selections of a choice; the operation that ends it, and whether that runs off the compute stream. */
  private choose({ works, topks }: LayerDemand, asked: number) {
    let last: Declared = { id: asked, where: 'gpu' };
    let done = 0;
    for (const topk of topks) {
      const upTo = Math.max(done, topk.follows ?? works.length);
      last = this.works(works.slice(done, upTo), 1, last);
      last = { id: this.select(topk, last.where === 'gpu' ? [] : [last.id]), where: 'gpu' };
      done = upTo;
    }
    const { id, where } = this.works(works.slice(done), 1, last);
    return { id, isElsewhere: where !== 'gpu' };
  }

  /** Works on `tokens` tokens, each after the one before it, the first after `from`; none after what runs beside them. */
  private works(works: readonly Work[], tokens: number, from: Declared): Declared {
    let last = from;
    for (const work of works) {
      const { where = 'gpu', ahead = false, beside = false } = work;
      const id = this.emit.score(work, tokens, where === last.where || ahead || beside ? [] : [last.id]);
      if (!beside) last = { id, where };
    }
    return last;
  }

  private fetch(choice: LayerDemand, share: Share, after: readonly number[]): number[] {
    return this.copied(after, (all) => this.emit.fetch(choice, share, all));
  }

  /** Copies in, the first of which wait for the prompt's copies out. */
  private copied(after: readonly number[], emit: (after: readonly number[]) => number[]): number[] {
    const ids = emit([...after, ...this.copiedOut]);
    if (ids.length > 0) this.copiedOut = [];
    return ids;
  }

  private attendAfter(choice: LayerDemand, copies: readonly number[]): void {
    const { attendTokens, residentTokens, fetchTokens: fetched } = choice;
    const inHbm = residentTokens.map((tokens, form) => tokens + fetched[form]);
    const inRows = sumOf(fetched) > 0 && !choice.works.some(({ laysOut }) => laysOut);
    this.attends.push(this.emit.attend(attendTokens, inHbm, copies, EVERYTHING, 'gpu', inRows));
  }

  /** The CPU attends what lies in DRAM while the GPU attends what it holds; the parts are merged on the GPU. */
  private attendOnHost(choice: LayerDemand, ready: readonly number[], asked: readonly number[]): void {
    const { attendTokens, farAttendTokens, residentTokens, fetchTokens } = choice;
    const far = { resident: false, far: WHOLE } as const;
    const answered = this.emit.outputsIn(this.emit.attend(farAttendTokens, fetchTokens, asked, far, 'cpu'));
    const near = sumOf(residentTokens) > 0;
    if (near) this.emit.attend(attendTokens - farAttendTokens, residentTokens, ready, RESIDENT);
    this.attends.push(this.emit.merge(near ? 2 : 1, [answered]));
  }

  /** Copies in pieces through staging buffers; attention over what is resident, and over each piece, meanwhile. */
  private streamed(choice: LayerDemand, ready: readonly number[], chosen: readonly number[]): void {
    const { chunks = 1, buffers = 2, speculative = false } = this.input.policy.transfer;
    const { fetchTokens: fetched } = choice;
    const resident = sumOf(choice.residentTokens);
    const total = sumOf(fetched);
    const perToken = choice.attendTokens / (resident + total);
    const piece = fetched.map((tokens) => tokens / chunks);
    const shareOf = (chunk: number): Share => [chunk / chunks, (chunk + 1) / chunks];
    const base = this.pieces.length;
    const copies: number[][] = [];
    const copyWhereFree = (): void => {
      // A piece goes into the buffer that the piece `buffers` before it has left.
      while (copies.length < chunks && base + copies.length - buffers < this.pieces.length) {
        const freed = this.pieces[base + copies.length - buffers];
        const after = [...(speculative ? [] : chosen), ...(freed === undefined ? [] : [freed])];
        copies.push(this.fetch(choice, shareOf(copies.length), after));
      }
    };
    copyWhereFree();
    let parts = chunks;
    if (resident > 0) {
      this.emit.attend(resident * perToken, choice.residentTokens, ready, RESIDENT);
      parts++;
    }
    for (let chunk = 0; chunk < chunks; chunk++) {
      const covers = { resident: false, far: shareOf(chunk) };
      this.pieces.push(this.emit.attend((total / chunks) * perToken, piece, copies[chunk], covers));
      copyWhereFree();
    }
    this.attends.push(this.emit.merge(parts, []));
  }
}
