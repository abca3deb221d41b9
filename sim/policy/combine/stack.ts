/**
 * `stack(a,b,…)`: all hooks in order, as admission, then selection, then eviction compose in Write-Gated KV
 * (arXiv 2512.17452: admission below Quest and SnapKV). A token is attended when every part chose it and none dropped
 * it; each part pays for its own choice.
 */
import * as z from 'zod';
import { Selection } from '../../quality/selection.ts';
import type { LayerPolicy, Pick, StepView } from '../policy.ts';
import { type Combinator, combined, hooksIn, memberOf } from './combinator.ts';

/** Gives the pick what all selections have in common, run by run. */
const intersect = (selections: readonly Selection[], length: number, pick: Pick): void => {
  const chosen = selections.filter(({ all }) => !all);
  if (chosen.length === 0) return;
  pick.none();
  const marksAt = (token: number): number => {
    let marks = -1;
    for (const selection of chosen) marks &= selection.marks[token];
    return marks;
  };
  const perQuery = chosen.some((selection) => selection.perQuery);
  const takeRuns = (bit: number, query?: number): void => {
    for (let from = 0; from < length; from++) {
      if ((marksAt(from) & bit) === 0) continue;
      let to = from + 1;
      while (to < length && (marksAt(to) & bit) !== 0) to++;
      pick.take(from, to, query);
      from = to;
    }
  };
  if (!perQuery) takeRuns(-1);
  else for (let query = 0; query < 32; query++) takeRuns(1 << query, query);
};

/** Lets every part choose for itself, then takes what all chose. */
const selectAll = (hooks: readonly LayerPolicy[], view: StepView, picks: readonly Pick[]): void => {
  const selecting = hooks.filter(({ select }) => select !== undefined);
  if (selecting.length === 1) {
    selecting[0].select?.(view, picks);
    return;
  }
  const selections = picks.map(() => selecting.map(() => new Selection(view.length)));
  selecting.forEach((hook, i) => {
    const own = picks.map((pick, at): Pick => {
      const selection = selections[at][i];
      selection.reset(view.length);
      return {
        ...pick,
        none: () => selection.none(),
        take: (from, to, query) => selection.take(from, to, query),
      };
    });
    hook.select?.(view, own);
  });
  picks.forEach((pick, at) => {
    intersect(selections[at], view.length, pick);
  });
};

/** The hooks of several policies on the same heads, in order. */
const stackHooks = (hooks: readonly LayerPolicy[]): LayerPolicy => ({
  onPrefill(view) {
    for (const { cache } of view.heads) cache.isShared = true;
    for (const hook of hooks) hook.onPrefill?.(view);
  },
  onAppend(view) {
    for (const hook of hooks) hook.onAppend?.(view);
  },
  select(view, picks) {
    selectAll(hooks, view, picks);
  },
  ...(hooks.some(({ observe }) => observe !== undefined)
    ? {
        observe(view, probabilities) {
          for (const hook of hooks) hook.observe?.(view, probabilities);
        },
      }
    : {}),
});

const config = z.object({});

export const combinator = {
  name: 'stack',
  title: 'policies on the same heads, hooks in order; what all of them chose is attended',
  parts: [2, 8],
  config,
  create(parts, _, world) {
    const members = parts.map((part) => memberOf(part, world));
    return { ...combined(members), layer: (layer) => stackHooks(hooksIn(members, layer)) };
  },
} satisfies Combinator<typeof config>;
