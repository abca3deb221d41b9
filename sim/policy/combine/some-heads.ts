/** Views of a layer that show a policy some of its KV heads only: index `i` of the view is head `at[i]` of the layer. */
import type { AppendView, LayerPolicy, OtherLayer, PrefillView, PromptView, StepView } from '../policy.ts';

export const somePrompt = <V extends PromptView>(view: V, at: readonly number[]): V => ({
  ...view,
  heads: at.map((head) => view.heads[head]),
  promptQueries: (head: number) => view.promptQueries(at[head]),
  promptMass: (head: number) => view.promptMass(at[head]),
  learnedScores: (field: 'gate' | 'utility', head: number) => view.learnedScores(field, at[head]),
  futureQueries: (head: number) => view.futureQueries(at[head]),
});

const somePrefill = (view: PrefillView, at: readonly number[]): PrefillView => ({
  ...somePrompt(view, at),
  attend: (head, tokens) => view.attend(at[head], tokens),
});

const someOther = (other: OtherLayer | null, at: readonly number[]): OtherLayer | null =>
  other && {
    keys: (head) => other.keys(at[head]),
    queries: (head) => other.queries(at[head]),
    promptQueries: (head) => other.promptQueries(at[head]),
  };

const someStep = (view: StepView, at: readonly number[]): StepView => ({
  ...view,
  heads: at.map((head) => view.heads[head]),
  queries: (head) => view.queries(at[head]),
  other: (layer) => someOther(view.other(layer), at),
});

/**
 * Hooks of several policies that share the heads of a layer among them: policy `classOf(kvHead)` has a head. A policy
 * that has none of the layer's (replayed) heads is not called.
 */
export const splitHooks = (
  hooks: readonly LayerPolicy[],
  classOf: (kvHead: number) => number,
): LayerPolicy => {
  const split = (
    view: Pick<StepView, 'heads'>,
    call: (hook: LayerPolicy, at: readonly number[]) => void,
  ): void =>
    hooks.forEach((hook, i) => {
      const at = view.heads.flatMap(({ kvHead }, head) => (classOf(kvHead) === i ? [head] : []));
      if (at.length > 0) call(hook, at);
    });
  return {
    onPrefill: (view) => split(view, (hook, at) => hook.onPrefill?.(somePrefill(view, at))),
    onAppend: (view: AppendView) =>
      split(view, (hook, at) => hook.onAppend?.({ ...view, heads: at.map((head) => view.heads[head]) })),
    select: (view, picks) =>
      split(view, (hook, at) =>
        hook.select?.(
          someStep(view, at),
          at.map((head) => picks[head]),
        ),
      ),
    observe: (view, probabilities) =>
      split(view, (hook, at) =>
        hook.observe?.(
          someStep(view, at),
          at.map((head) => probabilities[head]),
        ),
      ),
  };
};
