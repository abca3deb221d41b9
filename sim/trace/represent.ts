/**
 * Which replayed layer stands for which layer of the model: the nearest one. Policies whose parameters differ by layer
 * ask how many layers each replayed one counts for.
 */

/** The replayed layer that stands for `layer`: the nearest, ties to the lower. */
export const representativeOf = (layer: number, replayed: readonly number[]): number => {
  let best = replayed[0];
  for (const candidate of replayed)
    if (Math.abs(candidate - layer) < Math.abs(best - layer)) best = candidate;
  return best;
};

/** How many of `layers` layers each replayed one stands for, in the order of `replayed`; they add up to `layers`. */
export const layersStoodFor = (layers: number, replayed: readonly number[]): readonly number[] => {
  const counts = replayed.map(() => 0);
  for (let layer = 0; layer < layers; layer++) counts[replayed.indexOf(representativeOf(layer, replayed))]++;
  return counts;
};
