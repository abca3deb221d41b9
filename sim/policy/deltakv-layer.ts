/**
 * DeltaKV in one sparse layer: what of its KV is compressed, chosen, rebuilt and attended through a run. Used by
 * policies/deltakv.ts.
 */
import type { DeltaCosts } from './deltakv-cost.ts';
import { observedLogits } from './deltakv-cost.ts';
import type { ObservedChoice } from './observed-choice.ts';
import type { AppendView, LayerPolicy, LayerView, Pick, PrefillView, StepView, World } from './policy.ts';
import { compressedEnd, type ReferencePlan } from './reference-plan.ts';

export interface DeltaKvRules {
  readonly sinkTokens: number;
  readonly recentTokens: number;
  readonly topTokens: number;
  readonly topShare?: number | undefined;
  readonly prefillTopTokens: number;
  readonly chunkTokens: number;
  readonly latents: 'hbm' | 'dram';
  /** The layer that chooses; null = this one. */
  readonly observer: number | null;
  readonly plan: ReferencePlan;
  readonly choice: ObservedChoice;
  readonly costs: DeltaCosts;
}

/** Tokens coded in one piece, so that rebuilding some does not rebuild all. */
const PIECE_TOKENS = 64;

/** Compressed tokens in [from, to) that are not references. */
export const latentsIn = (plan: ReferencePlan, from: number, to: number): number =>
  Math.max(0, to - from) - (plan.countBefore(Math.max(from, to)) - plan.countBefore(from));

export class DeltaKvLayer implements LayerPolicy {
  private readonly rules: DeltaKvRules;
  private readonly world: World;
  /** End of the compressed history. */
  private end: number;

  constructor(rules: DeltaKvRules, world: World) {
    this.rules = rules;
    this.world = world;
    this.end = rules.sinkTokens;
  }

  onPrefill(view: PrefillView): void {
    this.compress(view);
    const attended = this.attendedByPrompt(view.length);
    view.heads.forEach((_, at) => {
      view.attend(at, attended);
    });
  }

  onAppend(view: AppendView): void {
    const before = this.end;
    this.compress(view);
    if (this.end === before) return;
    const { plan, costs } = this.rules;
    view.heads.forEach(() => {
      view.work(costs.compress(this.end - before, plan.countBefore(this.end), 1));
    });
  }

  select(view: StepView, picks: readonly Pick[]): void {
    const { sinkTokens, observer, plan, choice, costs, topShare, topTokens } = this.rules;
    const history = this.end - sinkTokens;
    if (history <= 0) return;
    const count = topShare === undefined ? topTokens : Math.ceil(topShare * history);
    const chosen = choice.choose(view, observer, sinkTokens, this.end, Math.min(count, history));
    let rebuilt = 0;
    for (const position of chosen) if (plan.isReference[position] === 0) rebuilt++;
    // Nothing ranks what only exists as residuals: a layer that chooses for itself rebuilds its whole history.
    if (observer === null) rebuilt = latentsIn(plan, sinkTokens, this.end);
    for (const pick of picks) {
      pick.none();
      pick.take(0, sinkTokens);
      for (const position of chosen) pick.take(position, position + 1);
      pick.take(this.end, view.length);
      pick.score(costs.rebuild(rebuilt));
      if (observer !== null) continue;
      pick.score(observedLogits(history, this.world));
      pick.topk(history, chosen.length, 1 / this.world.kvHeads);
    }
  }

  /** Keys that a prompt token attends to: chunk by chunk the sinks, the chosen history, the raw buffer and its chunk. */
  private attendedByPrompt(length: number): number {
    const { sinkTokens, recentTokens, prefillTopTokens, chunkTokens } = this.rules;
    let total = 0;
    for (let start = 0; start < length; start += chunkTokens) {
      const tokens = Math.min(chunkTokens, length - start);
      const history = compressedEnd(start, sinkTokens, recentTokens) - sinkTokens;
      const before = start - history + Math.min(history, prefillTopTokens);
      total += tokens * (before + tokens / 2);
    }
    return total / length;
  }

  /** The compressed history grows to where the plan says; whole tokens stay within it. */
  private compress(view: LayerView): void {
    const { plan, latents, sinkTokens, costs } = this.rules;
    const to = plan.endAt(view.length);
    const isReference = (token: number): boolean => plan.isReference[token] === 1;
    for (const { cache } of view.heads) {
      for (let from = this.end; from < to; from += PIECE_TOKENS) {
        const end = Math.min(to, from + PIECE_TOKENS);
        cache.recode(from, end, 1, isReference);
        if (latents === 'dram')
          for (let token = from; token < end; token++)
            if (!isReference(token)) cache.move(token, token + 1, 'dram');
      }
      const tokens = latentsIn(plan, sinkTokens, to);
      cache.setMeta('scales', 'hbm', tokens * costs.scaleBytes);
      cache.setMeta('reference-slots', 'hbm', tokens * costs.slotBytes);
    }
    this.end = to;
  }
}
