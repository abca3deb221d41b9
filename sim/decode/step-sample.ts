/**
 * The part that each decode step has in a sampled replay. Choices come in runs that end with a measured one: measuring is
 * dear, and a choice after a gap finds caches that were left long ago. Where runs touch, every step has its own choice.
 */
export interface StepSample {
  /** At one step of so many a choice is measured against exact attention; appends and demotions happen at every step. */
  readonly everySteps: number;
  /**
   * Steps right before a measured one at which policies choose too, so that their caches hold what adjacent steps leave
   * there; everySteps - 1 = they choose at every step.
   */
  readonly leadSteps: number;
}

/** Everything is chosen and measured. */
export const everyStep = { everySteps: 1, leadSteps: 0 } as const;

export const isChosen = ({ everySteps, leadSteps }: StepSample, step: number): boolean =>
  step % everySteps <= leadSteps;

export const isMeasured = ({ everySteps, leadSteps }: StepSample, step: number): boolean =>
  step % everySteps === leadSteps;

/** Whether the choice of a step follows one of the step before, or the prompt. */
export const isAdjacent = ({ everySteps, leadSteps }: StepSample, step: number): boolean =>
  step === 0 || everySteps === leadSteps + 1 || step % everySteps !== 0;

/**
 * The step whose choice counts as that of `step`: its own where choices are adjacent. A choice after a gap finds a cache
 * that was left long ago, so it counts only where there are no others; adjacent ones stand for the steps of a gap in turn.
 */
export const countedStep = (sample: StepSample, step: number): number => {
  const { everySteps, leadSteps } = sample;
  if (isChosen(sample, step) && (leadSteps === 0 || isAdjacent(sample, step))) return step;
  const inPlace = step % everySteps || everySteps;
  const first = step - inPlace;
  return leadSteps === 0 ? first : first + 1 + ((inPlace - 1) % leadSteps);
};
