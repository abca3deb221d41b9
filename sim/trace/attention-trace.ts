/**
 * An attention trace as policies and the decode run see it: typed views, no files, no time.
 * Readers and generators in traces/attention/ produce it. All positions are absolute token positions:
 * 0 .. promptTokens-1 is the prompt; the query of step s sits at position promptTokens + s and attends to
 * 0 .. promptTokens + s (its own token included).
 */
import type { Rope } from './rope.ts';

/** What a trace may hold, per recorded layer. A policy says what it requires, prefers and falls back to. */
export const traceFields = [
  'k',
  'kpre',
  'v',
  'vnorm',
  'q',
  'qprompt',
  'prefillMass',
  'mass',
  'gate',
  'utility',
] as const;

export type TraceField = (typeof traceFields)[number];

/** Scores per token from a trained module: an admission gate, a predicted importance. */
export type LearnedField = 'gate' | 'utility';

export interface AttentionTraceShape {
  /** Layers of the whole model, recorded or not. */
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly promptTokens: number;
  /** Decode steps recorded (queries per layer). */
  readonly steps: number;
  /** Which layers have tensors, ascending. */
  readonly recordedLayers: readonly number[];
}

/** Attention mass by block of tokens, for traces of engines that export no keys. */
export interface BlockMass {
  /** Tokens of a block; block b covers positions b · blockTokens .. (b + 1) · blockTokens - 1. */
  readonly blockTokens: number;
  /** Mean over the query heads of a KV head: row-major [steps, kvHeads, blocks]; a row sums to 1, or less if it was cut. */
  readonly mass: Float32Array;
}

export interface AttentionTrace {
  readonly name: string;
  readonly shape: AttentionTraceShape;
  /** Name of the model that the attention came from (a catalog name when known). */
  readonly model: string;
  /** Hash of everything that the trace can return; part of the result digest. */
  readonly digest: string;
  /** How keys and queries of full-attention layers were rotated; null or absent where that is not known. */
  readonly rope?: Rope | null;
  /** Ranges [from, to) of prompt tokens that the answer stands in; absent where nobody said. */
  readonly evidenceTokens?: readonly (readonly [number, number])[];
  has(field: TraceField, layer: number): boolean;
  /** Post-RoPE keys of one KV head: row-major [promptTokens + steps, headDim]. */
  keys(layer: number, kvHead: number): Float32Array;
  /** Values of one KV head: row-major [promptTokens + steps, headDim]. Only if has('v', layer). */
  values(layer: number, kvHead: number): Float32Array;
  /** Post-RoPE queries of one decode step for the query heads of one KV head: row-major [heads / kvHeads, headDim]. */
  queries(layer: number, step: number, kvHead: number): Float32Array;
  /** Post-RoPE queries of the last prompt tokens, same heads: row-major [windowTokens, heads / kvHeads, headDim]. Only if has('qprompt'). */
  promptQueries(layer: number, kvHead: number): { readonly windowTokens: number; readonly q: Float32Array };
  /** Column sums of the prompt's own causal attention: row-major [heads, promptTokens]. Only if has('prefillMass'). */
  prefillMass(layer: number): Float32Array;
  /** Mass by block of every decode step. Only if has('mass', layer). */
  blockMass(layer: number): BlockMass;
  /**
   * What a trained module said of each token of one KV head: of the prompt's tokens at least, of the generated ones
   * where the module ran on them. Only if has(field, layer).
   */
  learnedScores(field: LearnedField, layer: number, kvHead: number): Float32Array;
}
