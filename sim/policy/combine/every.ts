/**
 * `every(p)`: p chooses at every n-th step only; between, its last choice stands, with the tokens written since.
 * Caches and indexes are kept up at every step. As decode-time presses of NVIDIA/kvpress and G-KV refresh scores.
 */
import * as z from 'zod';
import type { LayerPolicy, Pick, StepView } from '../policy.ts';
import { type Combinator, combined, hooksIn, memberOf } from './combinator.ts';

/** What was picked for one head, as calls to make again; null = everything live. */
type Choice = ((pick: Pick) => void)[] | null;

/** Passes everything on, and keeps what decides the attended tokens (the declared work is not repeated). */
const recording = (pick: Pick, keep: (choice: NonNullable<Choice>) => void): Pick => {
  const calls: NonNullable<Choice> = [];
  const both = (call: (to: Pick) => void): void => {
    keep(calls);
    calls.push(call);
    call(pick);
  };
  return {
    ...pick,
    none: () => both((to) => to.none()),
    take: (first, end, query) => both((to) => to.take(first, end, query)),
    weigh: (token, query, factor) => both((to) => to.weigh(token, query, factor)),
    estimate: (rows) => both((to) => to.estimate(rows)),
  };
};

const everyNth = (hooks: LayerPolicy, n: number): LayerPolicy => {
  let choices: Choice[] = [];
  let chosen = { step: -Infinity, length: 0 };
  const isTurn = (step: number): boolean => step >= chosen.step + n || step === chosen.step;
  const choose = (view: StepView, picks: readonly Pick[]): void => {
    chosen = { step: view.step, length: view.length };
    choices = picks.map(() => null);
    const recorded = picks.map((pick, at) =>
      recording(pick, (calls) => {
        choices[at] = calls;
      }),
    );
    hooks.select?.(view, recorded);
  };
  const repeat = (view: StepView, picks: readonly Pick[]): void =>
    picks.forEach((pick, at) => {
      const choice = choices[at];
      if (choice === null) return;
      for (const call of choice) call(pick);
      pick.take(chosen.length, view.length);
    });
  return {
    onPrefill: (view) => hooks.onPrefill?.(view),
    onAppend: (view) => hooks.onAppend?.(view),
    select: (view, picks) => (isTurn(view.step) ? choose(view, picks) : repeat(view, picks)),
    observe(view, probabilities) {
      if (isTurn(view.step)) hooks.observe?.(view, probabilities);
    },
  };
};

const config = z.object({
  n: z.int().min(1).default(4).describe('decode steps from one choice to the next'),
});

export const combinator = {
  name: 'every',
  title: 'a policy that chooses at every n-th step only',
  parts: [1, 1],
  config,
  create(parts, { n }, world) {
    const members = parts.map((part) => memberOf(part, world));
    return { ...combined(members), layer: (layer) => everyNth(hooksIn(members, layer)[0], n) };
  },
} satisfies Combinator<typeof config>;
