/**
 * One policy on the KV heads of one layer: its caches, its selections and what it asked for in each step. Knows
 * nothing of time; hands plain demands to the lowering.
 */
import { createRandom } from '../engine/random.ts';
import { HeadCache, IN_DRAM, IN_HBM, type Movement, type StoredForm } from '../memory/head-cache.ts';
import type {
  HeadRows,
  HeadView,
  LayerPolicy,
  OtherLayer,
  Pick,
  Policy,
  PromptView,
  StepView,
  TopK,
  Work,
  World,
} from '../policy/policy.ts';
import type { ExactAttention } from '../quality/exact-attention.ts';
import { bitCount, EVERY_QUERY, Selection } from '../quality/selection.ts';
import { CodedRanges } from './coded-ranges.ts';
import { emptyDemand, type LayerDemand, type LayerResidency, mergeTopK, mergeWork } from './demand.ts';
import { farPieces } from './far-pieces.ts';
import { captureChoice, type HeadChoice } from './head-choice.ts';

export const formsOf = (policy: Policy, world: World): readonly StoredForm[] => [
  { name: 'raw', kBytesPerToken: world.kBytesPerToken, vBytesPerToken: world.vBytesPerToken },
  ...policy.codecs.map((codec) => ({
    name: codec.name,
    kBytesPerToken: codec.kBytesPerToken(world.headDim),
    // A latent row (MLA) holds keys and values in one: there is no value row to code.
    vBytesPerToken: world.vBytesPerToken === 0 ? 0 : codec.vBytesPerToken(world.headDim),
    ...(codec.isRebuilt === true ? { isRebuilt: true } : {}),
    ...(codec.isTurned === true ? { isTurned: true } : {}),
  })),
];

export class LayerReplay {
  readonly heads: readonly HeadView[];
  readonly selections: readonly Selection[];
  /** Per head, what is stored in a coded form. */
  readonly coded: readonly CodedRanges[];
  /** Told each head's choice, step by step; null = nobody asks. */
  onChoice: ((choices: readonly HeadChoice[]) => void) | null = null;
  private readonly policy: Policy;
  private readonly world: World;
  private readonly hooks: LayerPolicy;
  private readonly layer: number;

  constructor(policy: Policy, world: World, layer: number, heads: readonly HeadRows[], seed: number) {
    this.policy = policy;
    this.world = world;
    this.layer = layer;
    this.hooks = policy.layer(layer);
    const forms = formsOf(policy, world);
    const copies = policy.replicated ? world.groupSize : 1;
    this.heads = heads.map((head) => ({
      ...head,
      cache: new HeadCache(world.maxTokens, forms, copies),
      random: createRandom(seed, `policy-${layer}-${head.kvHead}`),
    }));
    this.selections = heads.map(() => new Selection(world.maxTokens));
    const codedTokens = policy.codecs.length > 0 ? world.maxTokens : 0;
    this.coded = heads.map((head) => new CodedRanges(head, world.headDim, codedTokens));
  }

  /** The prompt is read; returns what placing it asked for. */
  prefill(prompt: PromptView): LayerDemand {
    const length = this.world.promptTokens;
    for (const head of this.heads) head.cache.append(length);
    // A causal query sees half of the prompt on average.
    const attended = this.heads.map(() => length / 2);
    let isSparse = false;
    this.hooks.onPrefill?.({
      ...prompt,
      heads: this.heads,
      attend(head, tokens) {
        attended[head] = tokens;
        isSparse = true;
      },
    });
    const demand = this.drained();
    if (isSparse) demand.attendTokens = attended.reduce((a, b) => a + b, 0) / attended.length;
    return demand;
  }

  /** One token is written; returns what that alone asked for (demotions, evictions, encoding). */
  append(): LayerDemand {
    for (const head of this.heads) head.cache.append(1);
    const works: Work[] = [];
    const length = this.heads[0].cache.tokens;
    const work = (declared: Work): void => mergeWork(works, declared, 1 / this.heads.length);
    this.hooks.onAppend?.({ layer: this.layer, heads: this.heads, length, work });
    const demand = this.drained();
    demand.works = works;
    return demand;
  }

  /** Lets the policy choose for this step's queries. The selections hold what each head attends to afterwards. */
  select(
    step: number,
    queries: (head: number) => Float32Array,
    other: (layer: number) => OtherLayer | null,
  ): LayerDemand {
    const length = this.heads[0].cache.tokens;
    const demand = emptyDemand(this.heads[0].cache.forms.length);
    const share = 1 / this.heads.length;
    const topkAt = this.heads.map(() => 0);
    const picks: Pick[] = this.selections.map((selection, head) => {
      selection.reset(length);
      return {
        none: () => selection.none(),
        take: (from, to, query) => selection.take(from, to, query),
        weigh: (token, query, factor) => selection.weigh(token, query, factor),
        estimate: (rows) => {
          selection.estimates.push(rows);
          demand.attendTokens += rows.count * share;
          demand.residentTokens[0] += rows.count * share;
        },
        score: (work) => mergeWork(demand.works, work, share),
        topk: (of, k, rows = 1, keys) => {
          const topk: TopK = { of, k, rows, keys, follows: demand.works.length };
          mergeTopK(demand.topks, topkAt[head]++, topk, share);
        },
      };
    });
    const view: StepView = { layer: this.layer, heads: this.heads, length, step, queries, other };
    this.hooks.select?.(view, picks);
    this.heads.forEach((head, at) => {
      this.selections[at].restrictTo(head.cache.place, head.cache.liveTokens);
      this.countPicked(at, demand, share);
    });
    this.onChoice?.(this.captured());
    this.addMovements(demand);
    return demand;
  }

  /**
   * Shows the policy what was attended in a measured step: exact probabilities over its choice, as softmax over that
   * choice alone would give them. What it moves or drops then takes effect, and is paid, with the next append.
   */
  observe(
    step: number,
    queries: (head: number) => Float32Array,
    other: (layer: number) => OtherLayer | null,
    exact: (head: number) => ExactAttention,
  ): void {
    if (!this.hooks.observe) return;
    const length = this.heads[0].cache.tokens;
    const probabilities = this.selections.map((selection, at) => attendedShares(selection, exact(at)));
    const view: StepView = { layer: this.layer, heads: this.heads, length, step, queries, other };
    this.hooks.observe(view, probabilities);
  }

  residency(): LayerResidency {
    const mean = { hbmBytes: 0, dramBytes: 0, nvmeBytes: 0, liveTokens: 0 };
    for (const head of this.heads) {
      mean.hbmBytes += head.cache.residentBytes('hbm') / this.heads.length;
      mean.dramBytes += head.cache.residentBytes('dram') / this.heads.length;
      mean.nvmeBytes += head.cache.residentBytes('nvme') / this.heads.length;
      mean.liveTokens += head.cache.liveTokens / this.heads.length;
    }
    return mean;
  }

  private captured(): readonly HeadChoice[] {
    const far = this.policy.transfer.attendAt === 'cpu' ? 'cpu' : 'fetched';
    return this.heads.map(({ kvHead, cache }, at) =>
      captureChoice(kvHead, cache, this.selections[at], far, this.world.groupSize),
    );
  }

  /** Counted where they matter: copy engines do not wait for translations of the GPU. */
  private piecesOf(at: number): readonly number[] {
    const { cache } = this.heads[at];
    const { transfer } = this.policy;
    return transfer.mode === 'uva'
      ? farPieces(cache, this.selections[at], transfer, this.world.kvHeads)
      : cache.forms.map(() => 0);
  }

  private countPicked(at: number, demand: LayerDemand, share: number): void {
    const { cache } = this.heads[at];
    const { marks, all, perQuery } = this.selections[at];
    const onCpu = this.policy.transfer.attendAt === 'cpu';
    const group = this.world.groupSize;
    const everyQuery = group >= 32 ? EVERY_QUERY : (1 << group) - 1;
    const { place, form, copies, arrived, tokens } = cache;
    const resident = new Float64Array(demand.residentTokens.length);
    const away = new Float64Array(demand.fetchTokens.length);
    const entered = new Float64Array(demand.fetchTokens.length);
    const loaded = new Float64Array(demand.loadTokens.length);
    let attended = 0;
    let attendedFar = 0;
    for (let token = 0; token < tokens; token++) {
      const mark = all ? EVERY_QUERY : marks[token];
      if (mark === 0) continue;
      const queries = mark === EVERY_QUERY ? group : bitCount(mark & everyQuery);
      attended += queries;
      if ((place[token] & IN_HBM) !== 0) {
        // What enters an HBM slot in this step has to cross the link first.
        const reads = Math.min(queries, copies[token]);
        const entering = Math.min(reads, arrived[token]);
        resident[form[token]] += reads - entering;
        entered[form[token]] += entering;
        continue;
      }
      // What no faster tier holds is read into DRAM, once for all that asks for it.
      if ((place[token] & IN_DRAM) === 0) loaded[form[token]]++;
      if (onCpu) {
        attendedFar += queries;
        away[form[token]] += perQuery ? queries : 1;
      } else away[form[token]] += Math.min(queries, copies[token]);
    }
    const pieces = this.piecesOf(at);
    demand.attendTokens += (attended / group) * share;
    demand.farAttendTokens += (attendedFar / group) * share;
    for (let f = 0; f < resident.length; f++) {
      demand.residentTokens[f] += resident[f] * share;
      demand.fetchTokens[f] += (away[f] + entered[f]) * share;
      demand.fetchPieces[f] += pieces[f] * share;
      demand.loadTokens[f] += loaded[f] * share;
      // Movements count these as well.
      demand.refillTokens[f] -= entered[f] * share;
    }
  }

  /** What moved since the last drain, as a demand. */
  private drained(): LayerDemand {
    const demand = emptyDemand(this.heads[0].cache.forms.length);
    this.addMovements(demand);
    return demand;
  }

  private addMovements(demand: LayerDemand): void {
    const share = 1 / this.heads.length;
    this.heads.forEach((head, at) => {
      for (const movement of head.cache.movements) {
        for (const tokens of hopsOf(movement, demand)) tokens[movement.form] += movement.tokens * share;
      }
      for (const { form, from, to, tokens } of head.cache.recodings) {
        demand.encodeTokens[form] += tokens * share;
        this.coded[at].add(from, to, this.policy.codecs[form - 1]);
      }
      head.cache.drain();
    });
  }
}

/** The boundaries that a movement crosses, one after the other: NVMe is reached through DRAM. */
const hopsOf = ({ from, to }: Movement, demand: LayerDemand): readonly number[][] => [
  ...(from === 'hbm' ? [demand.spillTokens] : []),
  ...(from === 'nvme' ? [demand.loadTokens] : []),
  ...(to === 'hbm' ? [demand.refillTokens] : []),
  ...(to === 'nvme' ? [demand.storeTokens] : []),
];

/** Softmax over the selection alone, row-major [groupSize, length]: exact mass of the attended tokens, made 1. */
const attendedShares = (selection: Selection, exact: ExactAttention): Float32Array => {
  const { groupSize, stride, length, probabilities } = exact;
  const shares = new Float32Array(groupSize * length);
  for (let g = 0; g < groupSize; g++) {
    let mass = 0;
    for (let token = 0; token < length; token++) {
      if (selection.all || (selection.marks[token] >> g) & 1) {
        shares[g * length + token] = probabilities[g * stride + token];
        mass += probabilities[g * stride + token];
      }
    }
    if (mass > 0) for (let token = 0; token < length; token++) shares[g * length + token] /= mass;
  }
  return shares;
};
