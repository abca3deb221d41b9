/** The quality of a result: means and tails of what was recorded. Nothing here measures. */
import { quantiles } from '../engine/stats.ts';
import type { Quality } from '../result.ts';
import type { Footprints } from './footprint.ts';
import type { QualityRecorder } from './recorder.ts';

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const meanOrNull = (values: readonly number[]): number | null => (values.length === 0 ? null : mean(values));

/** Mean and the bad tail: 5th percentile of what should be high. */
const low = (values: readonly number[]) => ({ mean: mean(values), p5: quantiles(values, [0.05])[0] });
/** Mean and the bad tail: 95th percentile of what should be low. */
const high = (values: readonly number[]) => ({ mean: mean(values), p95: quantiles(values, [0.95])[0] });

const byShare = (samples: readonly (readonly number[])[]) => {
  const [at90, at95, at99] = samples.map((values) => meanOrNull(values) ?? 0);
  return { at90, at95, at99 };
};

const codecOf = ({ logitRms, keyError, valueError }: QualityRecorder): Quality['codec'] =>
  logitRms.length + valueError.length === 0
    ? null
    : {
        logitRms: meanOrNull(logitRms),
        keyError: meanOrNull(keyError),
        valueError: meanOrNull(valueError),
      };

const admissionOf = ({ admission }: QualityRecorder): Quality['admission'] =>
  admission.keptShare.length === 0
    ? null
    : {
        keptShare: mean(admission.keptShare),
        precision: mean(admission.precision),
        auroc: mean(admission.auroc),
        gateAuroc: meanOrNull(admission.gateAuroc),
      };

/** Null when nothing was measured. */
export const summarise = (recorder: QualityRecorder, footprints: Footprints): Quality | null => {
  if (recorder.massRecall.length === 0) return null;
  const { eviction, locality, drift } = recorder;
  return {
    massRecall: low(recorder.massRecall),
    topkRecall: mean(recorder.topkRecall),
    outputError: meanOrNull(recorder.outputError),
    footprint: footprints.tokens,
    recallAt100: mean(recorder.recallAt100),
    outputErrorP95: recorder.outputError.length === 0 ? null : high(recorder.outputError).p95,
    oracle: {
      massRatio: low(recorder.bestRatio),
      tokens: byShare(recorder.oracleTokens),
      budgetEfficiency: byShare(recorder.efficiency),
    },
    valueMass: recorder.valueMass.length === 0 ? null : low(recorder.valueMass),
    totalVariation: high(recorder.totalVariation),
    codec: codecOf(recorder),
    eviction:
      eviction.lostMass.length === 0
        ? null
        : { lostMass: high(eviction.lostMass), worstToken: high(eviction.worstToken) },
    needle: eviction.needle(),
    locality: locality.summary(),
    drift: [...drift.points()],
    admission: admissionOf(recorder),
    footprintPeak: footprints.peakTokens,
    byteFootprint: footprints.bytes,
  };
};
