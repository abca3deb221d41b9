/**
 * What the quality measures of a run cannot show, in one line each, so that nobody has to guess. They rank policies; a
 * benchmark score needs the model.
 */

export interface LimitsInput {
  readonly hasValues: boolean;
  readonly hasEvidence: boolean;
  readonly steps: number;
  /** One step in so many is measured; policies choose at so many of them in a row. */
  readonly everySteps: number;
  readonly chosenSteps: number;
}

export const qualityLimits = ({
  hasValues,
  hasEvidence,
  steps,
  everySteps,
  chosenSteps,
}: LimitsInput): readonly string[] => [
  "Queries and keys are those of full attention: errors do not reach later layers or tokens, and the text is the trace's own.",
  'Recall and error rank policies; they are no benchmark score, and a few points should be checked on the model itself.',
  ...(hasValues ? [] : ['The trace has no values: output error and value-weighted mass are not measured.']),
  ...(hasEvidence
    ? []
    : ['The trace names no evidence: whether the tokens of the answer survive is not measured.']),
  ...(everySteps > 1 ? [`Quality is measured at one step in ${everySteps}.`] : []),
  ...(chosenSteps < everySteps
    ? [
        `Choices are replayed at ${chosenSteps} of ${everySteps} steps, in a row: caches much larger than one choice are less full of the right rows than they would be.`,
      ]
    : []),
  ...(steps < 256
    ? [`${steps} steps show little of how an index ages, or of what eviction loses later.`]
    : []),
];
