/**
 * The contract of a KV-cache policy. A policy decides who is admitted, scored, selected, fetched, encoded,
 * placed and dropped; it never sees time. Hooks name the moments at which information arrives (a prompt is in the
 * cache, a token is written, a query exists, probabilities exist); what a policy may do at each is to change
 * the head caches and to declare work. One layer at a time, all (sampled) KV heads of the layer together, because
 * budgets and votes may be shared between heads.
 */
import type * as z from 'zod';
import type { Random } from '../engine/random.ts';
import type { HeadCache } from '../memory/head-cache.ts';
import type { KernelCall, SelectOperation, TierBytes } from '../program/operation.ts';
import type { EstimatedRows } from '../quality/selection.ts';
import type { LearnedField, TraceField } from '../trace/attention-trace.ts';
import type { Rope } from '../trace/rope.ts';
import type { Codec } from './codec.ts';
import type { Transfer } from './transfer.ts';

/** What a policy may know of the model and of the request before it starts. All counts per sequence. */
export interface World {
  readonly layers: number;
  /** Query heads and KV heads of one layer, and their ratio. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly groupSize: number;
  readonly headDim: number;
  /** Bytes of K and of V of one token in one KV head, uncoded. */
  readonly kBytesPerToken: number;
  readonly vBytesPerToken: number;
  readonly promptTokens: number;
  /** Prompt plus generated tokens at the end of the run. */
  readonly maxTokens: number;
  /** Fields that every replayed layer of the trace has. */
  readonly fields: ReadonlySet<TraceField>;
  /** Layers that the trace has rows of, replayed or not; absent = all. */
  readonly recordedLayers?: readonly number[];
  /** What is replayed and stands for the rest, for parameters that differ by layer and head; absent = everything. */
  readonly replayed?: { readonly layers: readonly number[]; readonly kvHeads: readonly number[] };
  /** How the trace's keys were rotated, for policies that work before rotation; null or absent where not known. */
  readonly rope?: Rope | null;
}

/** The rows of one KV head. Those at or past a view's `length` are the future: reading them is a bug. */
export interface HeadRows {
  readonly kvHead: number;
  /** Post-RoPE keys, row-major [maxTokens, headDim]. */
  readonly keys: Float32Array;
  /** Values, row-major [maxTokens, headDim]; null when the trace has none. */
  readonly values: Float32Array | null;
}

/** One KV head as a policy sees it. */
export interface HeadView extends HeadRows {
  readonly cache: HeadCache;
  readonly random: Random;
}

export interface LayerView {
  readonly layer: number;
  readonly heads: readonly HeadView[];
  /** Tokens written so far. */
  readonly length: number;
}

/** Post-RoPE queries of consecutive tokens for one KV head's group: row-major [windowTokens, groupSize, headDim]. */
export interface WindowQueries {
  readonly windowTokens: number;
  readonly q: Float32Array;
}

/** What is known of one layer when its prompt has just been read; `head` is an index into `heads`. */
export interface PromptView {
  readonly layer: number;
  readonly heads: readonly HeadRows[];
  /** Tokens written so far: the prompt's. */
  readonly length: number;
  /** Queries of the last prompt tokens; null when not recorded. */
  promptQueries(head: number): WindowQueries | null;
  /** Column sums of the prompt's own attention: [promptTokens], of one query head or summed over the group; null when not recorded. */
  promptMass(head: number, query?: number): Float32Array | null;
  /** A trained module's score per token, of the prompt's tokens at least; null when not recorded. */
  learnedScores(field: LearnedField, head: number): Float32Array | null;
  /**
   * Queries of all tokens yet to be generated, the first at position `length`, and with them leave to read every row of
   * `keys`: what no real system knows. Null unless the policy says that it is an `oracle`.
   */
  futureQueries(head: number): WindowQueries | null;
}

/** The same when the policy may place, recode and drop. */
export interface PrefillView extends PromptView {
  readonly heads: readonly HeadView[];
  /**
   * Declares sparse prefill attention: queries of this head's group attend to `tokens` keys on average, padding of
   * the kernel's tiles included. Heads that declare nothing are causal and dense.
   */
  attend(head: number, tokens: number): void;
}

export interface AppendView extends LayerView {
  /** Declares work that one KV head takes in this step because of the append (coding, clustering); before the choice. */
  work(work: Work): void;
}

/** Rows of a layer other than the one that is replayed, of the replayed KV heads (index into `heads`). */
export interface OtherLayer {
  /** Row-major [maxTokens, headDim]; rows at or past the view's `length` are the future. */
  keys(head: number): Float32Array;
  /** Queries of this step: row-major [groupSize, headDim]. */
  queries(head: number): Float32Array;
  /** Queries of the prompt's last tokens; null when not recorded. */
  promptQueries(head: number): WindowQueries | null;
}

export interface StepView extends LayerView {
  readonly step: number;
  /** Post-RoPE queries of a KV head's group (index into `heads`): row-major [groupSize, headDim]. */
  queries(head: number): Float32Array;
  /** Another layer of the same step, where one layer's choice serves others; null when the trace does not record it. */
  other(layer: number): OtherLayer | null;
}

/**
 * Work that a policy declares; bytes and flops of ONE KV head of one sequence. Works of one choice depend on each other
 * in the order in which they are declared.
 */
export interface Work {
  readonly index: string;
  readonly readBytes: TierBytes;
  readonly writeBytes?: TierBytes;
  readonly flops: number;
  /** Flops of matrix products (many queries at a time), which tensor cores take; not counted in `flops`. */
  readonly matrixFlops?: number;
  /** Kernels launched (calls of the copy engine) for the whole layer, not per head. */
  readonly kernels: number;
  /** 'h2d' and 'd2h': no arithmetic, a copy engine takes `readBytes` of index data (codes, ids) across the host link. */
  readonly where?: 'gpu' | 'cpu' | 'h2d' | 'd2h';
  /** True when it needs nothing of this step, so that it may run while earlier layers do. */
  readonly ahead?: boolean;
  /** True when the GPU does it while copies and the CPU go on with the same choice: neither waits for the other. */
  readonly beside?: boolean;
  /** True when it lays all raw rows of the choice side by side in HBM, where attention then reads them. */
  readonly laysOut?: boolean;
  /** Bytes of weights that the work reads in HBM: once a layer, whatever the KV heads and the batch. */
  readonly weightBytes?: number;
  /** The kernel of our own that does it, where one does. */
  readonly call?: KernelCall;
}

/** A top-k of `k` out of `of`; `rows` independent ones a KV head. */
export interface TopK {
  readonly of: number;
  readonly k: number;
  readonly rows: number;
  readonly keys?: SelectOperation['keys'] | undefined;
  /** Works of the same choice that come before it; absent = all. */
  readonly follows?: number | undefined;
}

/** What a dense layer does beside attention: scoring tokens for other layers, or for itself. */
export interface DenseWork {
  readonly works: readonly Work[];
  readonly topk: TopK;
  /** Tokens that the layer itself attends to, once they are chosen; absent = all of them, before the choice. */
  readonly attendTokens?: number;
}

/** Tokens that go through the whole model beside the prompt, once, before anything is dropped. Counts of one sequence. */
export interface ExtraPass {
  /** Tokens of one pass, and the keys that each of them attends to. */
  readonly tokens: number;
  readonly contextTokens: number;
  /** 0: they ride behind the prompt, in its own pass. Else as many passes follow the prompt one after another. */
  readonly passes: number;
  /** Rank of the adapters that these tokens take beside the frozen weights of every product; 0 = none. */
  readonly adapterRank: number;
}

/** What one KV head attends to in this step. */
export interface Pick {
  /** Starts as "everything that is live". The first call of `none` or `take…` makes it explicit. */
  none(): void;
  /** Adds tokens [from, to), as far as they are live; `query` limits the choice to one query head of the group. */
  take(from: number, to: number, query?: number): void;
  /** Multiplies the softmax weight of a taken token for one query head (a sampler's correction of its own bias). */
  weigh(token: number, query: number, factor: number): void;
  /** Attends to rows in HBM that stand for tokens not taken: each counts `sizes` times, with its mean value. */
  estimate(rows: EstimatedRows): void;
  /** Declares index reads and arithmetic before the choice. */
  score(work: Work): void;
  /** Declares a top-k of `k` out of `of`. `rows` = independent selections for this KV head (default 1). */
  topk(of: number, k: number, rows?: number, keys?: TopK['keys']): void;
}

export interface LayerPolicy {
  /** The prompt of this layer is in the cache: place it, recode it, drop from it, build indexes. */
  onPrefill?(view: PrefillView): void;
  /** One token was appended to every head. */
  onAppend?(view: AppendView): void;
  /** Chooses what each head attends to; absent = everything that is live. */
  select?(view: StepView, picks: readonly Pick[]): void;
  /**
   * Softmax over the attended tokens, 0 elsewhere: per head row-major [groupSize, length]. Only for policies that say
   * that they learn. Changes to the caches take effect with the next append.
   */
  observe?(view: StepView, probabilities: readonly Float32Array[]): void;
}

export interface Policy {
  /** Stored forms beside the raw one; a cache's form 1.. are these codecs, in order. */
  readonly codecs: readonly Codec[];
  readonly transfer: Transfer;
  /** Layers that the policy leaves alone: full attention in HBM. */
  isDenseLayer(layer: number): boolean;
  /** HBM that staging buffers need, bytes of one sequence (all layers). */
  readonly stagingBytes: number;
  /** DRAM that staging buffers for KV from NVMe need, bytes of one sequence. */
  readonly hostStagingBytes: number;
  /** Work of one KV head and layer per prompt token, done once after prefill (index building, encoding). */
  readonly prefillWork: readonly Work[];
  /** What the model itself computes beside the prompt for the policy's sake; null = nothing. */
  readonly extraPass: ExtraPass | null;
  /** True when a layer waits for its own copies out, of the prompt and of what an append moves. */
  readonly waitsForSpills: boolean;
  /** True when KV is replicated to query heads before a per-query-head choice: stored and read once a query head. */
  readonly replicated: boolean;
  /** True when `observe` decides what later steps keep: then no step may be left out of the replay. */
  readonly learns: boolean;
  /** True when it reads the future on purpose, as a bound on what a better score could do; `inputs` then says so. */
  readonly oracle: boolean;
  /** "exact", or the fallback that was taken because the trace lacks a field. */
  readonly inputs: string;
  /**
   * Called with each replayed layer that is not dense, in order, before the first `onPrefill`: for budgets that layers
   * share, which one layer's view cannot decide.
   */
  survey?(view: PromptView): void;
  /** HBM bytes of weights that the policy adds to the model, all layers. */
  readonly weightBytes: number;
  /** With 'ahead': the layer whose attention must end before the choice of `layer` is known; null = known before. */
  choiceLayer(layer: number): number | null;
  /** What a dense layer does beside its attention of `tokens` keys; null = nothing. */
  denseWork(layer: number, tokens: number): DenseWork | null;
  layer(layer: number): LayerPolicy;
}

/** The one export (`policy`) of a file in policies/. */
export interface PolicyPlugin<S extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  readonly title: string;
  readonly family: 'baseline' | 'admission' | 'selection' | 'eviction' | 'compression' | 'tiering';
  /** Paper or repository that specifies it. */
  readonly source: string;
  readonly requires: readonly TraceField[];
  readonly prefers?: readonly TraceField[];
  readonly config: S;
  /**
   * Parameters at which one query head attends to at most `tokens` tokens (mean over heads and layers), beside those
   * generated since the prompt, with no layer left dense: the common measure by which policies of all families are
   * compared. Absent where a policy has no such size (full attention, quantisation). `tokens` is 16 or more.
   */
  atBudget?(tokens: number, world: World): Partial<z.input<S>>;
  create(config: z.infer<S>, world: World): Policy;
}

/** What most policies leave as it is. */
export const policyDefaults = {
  codecs: [] as readonly Codec[],
  transfer: {
    mode: 'dma',
    rowTokens: Infinity,
    joinHeads: true,
    joinKv: true,
    overlap: 'step',
  } satisfies Transfer,
  isDenseLayer: (_layer: number): boolean => false,
  stagingBytes: 0,
  hostStagingBytes: 0,
  prefillWork: [] as readonly Work[],
  extraPass: null as ExtraPass | null,
  waitsForSpills: false,
  replicated: false,
  learns: false,
  oracle: false,
  inputs: 'exact',
  weightBytes: 0,
  choiceLayer: (_layer: number): number | null => null,
  denseWork: (_layer: number, _tokens: number): ReturnType<Policy['denseWork']> => null,
} as const;
