/**
 * Brings the share that a query's own token has in the answer's mass to what was measured, by how far queries agree with
 * their own keys: a correlation over all channels, as a profile has it, says little about the few that logits hang on.
 */
import { exp } from '../../../sim/engine/math.ts';
import { keyRun, logMasses, probeQueries } from './probe.ts';
import { answerTokens } from './regions.ts';
import type { HeadScales, RowSource } from './rows.ts';

/** Most that the correlation is shifted, and halvings of that range. */
const mostShift = 0.5;
const halvings = 8;

/** `scales` with the shift; `wanted` is the mean share over query heads and steps. */
export function solveNewest(source: RowSource, scales: HeadScales, wanted: number): HeadScales {
  const { promptTokens } = source;
  const run = keyRun(source, scales, promptTokens, promptTokens + answerTokens);
  const shareAt = (selfShift: number): number => {
    const queries = probeQueries(source, { ...scales, selfShift });
    const all = logMasses(queries, [run], (query) => queries.steps[query] + 1);
    const others = logMasses(queries, [run], (query) => queries.steps[query]);
    return all.reduce((sum, mass, query) => sum + 1 - exp(others[query] - mass), 0) / queries.count;
  };
  let [low, high] = [-mostShift, mostShift];
  for (let i = 0; i < halvings; i++) {
    const middle = (low + high) / 2;
    if (shareAt(middle) > wanted) high = middle;
    else low = middle;
  }
  return { ...scales, selfShift: (low + high) / 2 };
}
