/** Samples of a card for tests of fits: its sites are theirs. */
import type { Samples, SiteSamples } from '../samples.ts';

/** What a calibration of a CUDA card would have written of these sites. */
export const samplesOf = (sites: readonly SiteSamples[]): Samples => ({
  format: 'kvtier.samples/1',
  machine: {
    backend: 'cuda',
    name: 'a card',
    driver: '1',
    runtime: '2',
    units: 108,
    date: '2026-11-22',
    emulated: [],
  },
  senses: [],
  sites: [...sites],
});
