/**
 * The versioned result that every verb prints and every picture reads. `kvtier.result/1`.
 * Wall clock, host and versions are provenance and stay outside the digest.
 */
import * as z from 'zod';

export const RESULT_FORMAT = 'kvtier.result/1';

const ns = z.number().nonnegative();
const bytes = z.number().nonnegative();
const ratio = z.number().min(0).max(1.000001);
const amount = z.number().nonnegative();
const byShare = { at90: amount, at95: amount, at99: amount };

const stepNsSchema = z.object({ mean: ns, p50: ns, p95: ns, p99: ns });

const boundarySchema = z.object({
  bytes,
  bytesPerStep: bytes,
  /** Share of the steps' time in which the link carried bytes of this direction. */
  busyRatio: ratio,
  /** Bytes that crossed while the prompt was read. */
  prefillBytes: bytes,
});

/**
 * KV, index and staging traffic of a tier itself: of the HBM; of the DRAM where KV is read without a copy (attention on
 * the CPU). Weights are counted apart because no policy changes them.
 */
const hbmTrafficSchema = z.object({
  readBytesPerStep: bytes,
  writeBytesPerStep: bytes,
  weightReadBytesPerStep: bytes,
});

const qualitySchema = z.object({
  /** Attention mass on the attended tokens: mean and 5th percentile over heads × steps of non-dense layers. */
  massRecall: z.object({ mean: ratio, p5: ratio }),
  topkRecall: ratio,
  /** Relative L2 error of the attention output; null when the trace has no values. */
  outputError: z.number().nonnegative().nullable(),
  /** KV footprint: live entries over dense causal entries (quality/footprint.ts). */
  footprint: z.number().nonnegative(),
  /** Share of the 100 truly most attended tokens that are attended (quality/recall.ts). */
  recallAt100: ratio.optional(),
  outputErrorP95: z.number().nonnegative().nullable().optional(),
  /** Against the best choice: its mass at the same size, the tokens that it needs for 90, 95 and 99 % of the mass. */
  oracle: z
    .object({
      massRatio: z.object({ mean: ratio, p5: ratio }),
      tokens: z.object(byShare),
      /** Those tokens over the tokens attended: above 1, no choice of this size could hold the share. */
      budgetEfficiency: z.object(byShare),
    })
    .optional(),
  /** Mass recall with each token weighted by its value's norm; null when the trace has no values. */
  valueMass: z.object({ mean: ratio, p5: ratio }).nullable().optional(),
  /** Half the L1 distance between exact and own attention weights (quality/distortion.ts). */
  totalVariation: z.object({ mean: ratio, p95: ratio }).optional(),
  /** Errors of coded KV: RMS of logits, attention-weighted relative squared error of rows; null when nothing is coded. */
  codec: z
    .object({ logitRms: amount.nullable(), keyError: amount.nullable(), valueError: amount.nullable() })
    .nullable()
    .optional(),
  /** Mass that later queries put on dropped tokens, and on the most missed one of each head; null: nothing dropped. */
  eviction: z
    .object({
      lostMass: z.object({ mean: ratio, p95: ratio }),
      worstToken: z.object({ mean: ratio, p95: ratio }),
    })
    .nullable()
    .optional(),
  /** Evidence tokens alive at the end, and attention to them that is kept; null when the trace names none. */
  needle: z.object({ live: ratio, massRecall: ratio }).nullable().optional(),
  /** Likeness of choices in a row, and hit ratio of an LRU hot set by its size; null: no choices (quality/locality.ts). */
  locality: z
    .object({
      jaccard: ratio,
      reuse: z.array(z.object({ hotTokens: z.number(), hitRatio: ratio })).readonly(),
    })
    .nullable()
    .optional(),
  /** Recall over the run, in stretches of measured steps. */
  drift: z.array(z.object({ step: z.int(), massRecall: ratio, recallAt100: ratio })).optional(),
  /** Prompt tokens kept against those worth keeping (quality/admission.ts); null: all kept. */
  admission: z
    .object({ keptShare: ratio, precision: ratio, auroc: ratio, gateAuroc: ratio.nullable() })
    .nullable()
    .optional(),
  /** Most live entries at a time, over the tokens of the run. */
  footprintPeak: amount.optional(),
  /** Bytes held per tier over the decode steps, over dense KV's. */
  byteFootprint: z.object({ hbm: amount, dram: amount, nvme: amount.optional() }).optional(),
});

const policyResultSchema = z.object({
  policy: z.string(),
  fits: z.boolean(),
  /** Bytes missing per tier when it does not fit. */
  shortBytes: z.record(z.string(), bytes).optional(),
  prefillNs: ns,
  stepNs: stepNsSchema,
  /** Mean step time if every operation on the critical path took its shortest, or its longest, time. */
  stepIntervalNs: z.tuple([ns, ns]),
  /** 'extrapolated' where more than a tenth of the path lies outside what its cost laws were fitted on. */
  domain: z.enum(['calibrated', 'extrapolated']),
  tokensPerS: z.number().nonnegative(),
  bound: z.object({ resource: z.string(), share: ratio }),
  /** Mean time per step spent in each operation kind (not counting overlap), ns. */
  operationNs: z.record(z.string(), ns),
  /**
   * Keys "dram->hbm", "hbm->dram" … are boundaries; "hbm" is the HBM's own read and write traffic, "dram" the DRAM's
   * where KV is read in place.
   */
  traffic: z.record(z.string(), z.union([boundarySchema, hbmTrafficSchema])),
  resident: z.object({
    hbm: z.object({ peakBytes: bytes, kvPeakBytes: bytes }),
    dram: z.object({ peakBytes: bytes, kvPeakBytes: bytes }),
    /** Absent where nothing lies on NVMe. */
    nvme: z.object({ peakBytes: bytes, kvPeakBytes: bytes }).optional(),
  }),
  quality: qualitySchema.nullable(),
  inputs: z.string(),
  digest: z.string(),
});

export type PolicyResult = z.infer<typeof policyResultSchema>;
export type Quality = z.infer<typeof qualitySchema>;

export const compareResultSchema = z.object({
  format: z.literal(RESULT_FORMAT),
  kind: z.literal('compare'),
  experiment: z.record(z.string(), z.unknown()),
  seed: z.number(),
  policies: z.array(policyResultSchema),
  /** Digest of the resolved experiment and of all policies' digests. */
  digest: z.string(),
  notes: z.array(z.string()),
  /** What the quality measures of this run cannot show (quality/limits.ts). */
  limits: z.array(z.string()).optional(),
  provenance: z.record(z.string(), z.unknown()).optional(),
});

export type CompareResult = z.infer<typeof compareResultSchema>;
