/** What is measured of one query head in one step. -1 says that something could not be, or need not be, measured. */

/** How much of exact attention the attended tokens hold (recall.ts). */
export interface Recall {
  /** Tokens that this query head attends to. */
  tokens: number;
  massRecall: number;
  topkRecall: number;
  recallAt100: number;
  /** Mass of as many tokens, the largest ones: what the best choice of this size would hold. */
  bestMass: number;
  /** -1 when the trace has no values. */
  valueMass: number;
}

/** What stored forms and estimates did to the weights (distortion.ts); -1 where nothing was coded. */
export interface Distortion {
  logitRms: number;
  keyError: number;
  valueError: number;
  totalVariation: number;
}

export interface HeadQuality extends Recall, Distortion {
  /** Relative L2 error of the attention output; -1 when the trace has no values. */
  outputError: number;
}

/** Everything is attended to, as it is. */
export const setPerfect = (out: HeadQuality, tokens: number, hasValues: boolean): void => {
  out.tokens = tokens;
  out.massRecall = 1;
  out.topkRecall = 1;
  out.recallAt100 = 1;
  out.bestMass = 1;
  out.valueMass = hasValues ? 1 : -1;
  out.logitRms = -1;
  out.keyError = -1;
  out.valueError = -1;
  out.totalVariation = 0;
  out.outputError = hasValues ? 0 : -1;
};

export const createHeadQuality = (): HeadQuality => {
  const quality = {} as HeadQuality;
  setPerfect(quality, 0, false);
  return quality;
};
