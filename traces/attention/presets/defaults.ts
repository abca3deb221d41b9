/**
 * Parameters that presets share, and how a head's statistics become its class and targets.
 * Sources: concentration and need of far tokens from statistics/; the first token holds most of the mass in most
 * layers but not in the first two (Barbero et al. 2025, arXiv:2504.02732; Xiao et al. 2023, arXiv:2309.17453);
 * slash patterns from MInference (arXiv:2407.02490). Persistence, agreement and passage lengths are assumptions until
 * fitted to captured traces; no published dump has them.
 */
import { log2 } from '../../../sim/engine/math.ts';
import type { Random } from '../../../sim/engine/random.ts';
import type { HeadStatistics } from '../statistics/llama-3.1-8b.ts';
import type { ClassProfile, HeadClass, HeadTarget, KeyProfile, TextProfile } from './preset.ts';

export const defaultText: TextProfile = {
  passageMinTokens: 24,
  passageMeanTokens: 96,
  topics: 48,
  topicStay: 0.7,
  topicRatio: 0.5,
  vocabulary: 4096,
  functionWords: 64,
};

export const defaultKeys: KeyProfile = {
  topicRank: 16,
  topicScale: 2,
  identityRatio: 0.5,
  turningMean: 2,
  kernelNoise: 0.4,
  meanScale: 1,
  salientRatio: 0.03,
};

const steady = { persistence: 0.92, jumpRatio: 0.02, latch: 0.2, here: 0.3, agreement: 0.7 };

export const defaultClasses: Readonly<Record<HeadClass, ClassProfile>> = {
  sink: { ...steady, topicRatio: 0.4, staticRatio: 0.45, freshRatio: 0.15 },
  local: { ...steady, topicRatio: 0.45, staticRatio: 0.35, freshRatio: 0.2 },
  retrieval: {
    topicRatio: 0.65,
    staticRatio: 0.2,
    freshRatio: 0.15,
    persistence: 0.85,
    jumpRatio: 0.08,
    latch: 0.75,
    here: 0.2,
    agreement: 0.75,
  },
  diffuse: { ...steady, topicRatio: 0.45, staticRatio: 0.35, freshRatio: 0.2, agreement: 0.6 },
  periodic: { ...steady, topicRatio: 0.4, staticRatio: 0.4, freshRatio: 0.2 },
};

/** Ranges that sink and local shares are drawn from, and of the kernel's reach (a power of two times its low end), by class. */
const ranges: Readonly<Record<HeadClass, readonly [sink: Range, local: Range, kernel: Range]>> = {
  sink: [
    [0.75, 0.95],
    [0.15, 0.35],
    [32, 256],
  ],
  local: [
    [0.3, 0.7],
    [0.5, 0.85],
    [16, 128],
  ],
  retrieval: [
    [0.35, 0.75],
    [0.1, 0.3],
    [64, 512],
  ],
  diffuse: [
    [0.1, 0.5],
    [0.05, 0.15],
    [128, 512],
  ],
  periodic: [
    [0.3, 0.7],
    [0.2, 0.4],
    [8, 64],
  ],
};

type Range = readonly [low: number, high: number];

const between = ([low, high]: Range, share: number): number => low + (high - low) * share;

function classOf({ massTop1, farScore, farGate }: HeadStatistics, draw: number): HeadClass {
  const far = (farScore + farGate) / 2;
  if (draw < 0.08) return 'periodic';
  if (farScore < 0.2) return draw < 0.5 ? 'sink' : 'local';
  if (massTop1 < 0.25) return 'diffuse';
  return far > 0.6 || draw < 0.4 ? 'retrieval' : 'local';
}

/** Draws what the statistics leave open. The first two layers have hardly any sink. */
export function targetOf(statistics: HeadStatistics, layer: number, random: Random): HeadTarget {
  const headClass = classOf(statistics, random.uniform());
  const [sink, local, kernel] = ranges[headClass];
  const sinkRatio = between(sink, random.uniform()) * (layer < 2 ? 0.1 : 1);
  const localRatio = between(local, random.uniform());
  const kernelTokens = kernel[0] * 2 ** random.integer(log2(kernel[1] / kernel[0]) + 1);
  const { massTop1, massTop10 } = statistics;
  return { class: headClass, massTop1, massTop10, sinkRatio, localRatio, kernelTokens };
}
