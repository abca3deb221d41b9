/** What restarts on any machine have in common: named sites, orders of their own, and the quieter of two visits. */
import type { Random } from '../../kernels/random.ts';
import { medianOf } from '../samples.ts';
import type { Site } from './microbench.ts';

export interface NamedSite {
  readonly benchmark: string;
  readonly site: Site;
}

export const keyOf = ({ benchmark, site }: NamedSite): string => `${benchmark} ${site.id}`;

export interface RestartTimes {
  readonly senses: readonly Readonly<Record<string, number>>[];
  /** By "benchmark id"; a site that the backend does not support is absent. */
  readonly samplesNs: Readonly<Record<string, readonly number[]>>;
}

export const shuffled = <T>(values: readonly T[], random: Random): T[] => {
  const out = [...values];
  for (let i = out.length - 1; i > 0; i--) {
    const j = random.integer(0, i);
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
};

/** The quieter of two visits. */
export const quieter = (one: readonly number[] | undefined, other: readonly number[]): readonly number[] =>
  one !== undefined && medianOf(one) < medianOf(other) ? one : other;
