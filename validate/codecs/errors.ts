/**
 * What each codec does to real attention: the whole context but four sinks and the last 128 tokens is coded, and recorded
 * queries attend to it. Errors are those of the result's quality (sim/quality/distortion.ts), means over query heads and
 * steps.
 */
import { replayPolicies } from '../../sim/decode/replay.ts';
import { mean } from '../../sim/engine/stats.ts';
import type { Codec } from '../../sim/policy/codec.ts';
import { catalog } from '../../sim/policy/codecs/catalog.generated.ts';
import { createPolicy } from '../../sim/policy/create-policy.ts';
import { findPolicy } from '../../sim/policy/find-policy.ts';
import type { AttentionTrace } from '../../sim/trace/attention-trace.ts';
import { worldOf } from '../attention/outcomes.ts';

export const codecs: Readonly<Record<string, Codec>> = catalog;

/** Tokens coded together. */
export const BLOCK_TOKENS = 128;

export interface CodecErrors {
  readonly codec: string;
  /** RMS of the error of logits q·k over √d. */
  readonly logitRms: number;
  /** Attention-weighted relative squared error of key and value rows. */
  readonly keyError: number;
  readonly valueError: number;
  readonly totalVariation: number;
  /** Relative L2 error of the attention output. */
  readonly outputError: number;
}

export interface CodecErrorRequest {
  readonly trace: AttentionTrace;
  readonly layers: readonly number[];
  readonly kvHeads: readonly number[];
  /** Decode steps replayed, and every how many of them is measured. */
  readonly steps: number;
  readonly everySteps: number;
  /** Code keys as they were before rotary embedding. */
  readonly preRope?: boolean;
}

/** Errors of every codec of the catalog, in its order. The trace needs keys, queries and values. */
export const measureCodecs = (request: CodecErrorRequest): readonly CodecErrors[] => {
  const { trace, layers, kvHeads, steps, everySteps, preRope = false } = request;
  const world = worldOf(request);
  const plugin = findPolicy('quantized');
  const names = Object.keys(codecs);
  const policies = names.map((codec) =>
    createPolicy(plugin, { codec, preRope, blockTokens: BLOCK_TOKENS }, world),
  );
  const sample = { layers, kvHeads, everySteps, leadSteps: 0 };
  return replayPolicies({ trace, world, sample, steps, seed: 1, policies }).map(({ quality }, at) => ({
    codec: names[at],
    logitRms: mean(quality.logitRms),
    keyError: mean(quality.keyError),
    valueError: mean(quality.valueError),
    totalVariation: mean(quality.totalVariation),
    outputError: mean(quality.outputError),
  }));
};
