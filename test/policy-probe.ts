/**
 * One policy stepped through a trace by hand, with a look at its caches and choices after every hook: for the laws
 * that the demands of a replay no longer show.
 */
import { LayerReplay } from '../sim/decode/head-replay.ts';
import { promptOf } from '../sim/decode/replay.ts';
import type { HeadRows, Policy, PromptView, World } from '../sim/policy/policy.ts';
import { attendSteps, createExactSteps } from '../sim/quality/exact-attention.ts';
import type { AttentionTrace } from '../sim/trace/attention-trace.ts';

export type Hook = 'onPrefill' | 'onAppend' | 'select' | 'observe';

export interface ProbeRequest {
  readonly policy: Policy;
  readonly world: World;
  readonly trace: AttentionTrace;
  readonly layer: number;
  readonly steps: number;
  /** Called after each hook; the keys and values that the replay holds are its own copies. */
  readonly after: (replay: LayerReplay, hook: Hook) => void;
}

/** Marks of every head after each step's choice: per step, per head, row of `length` bit sets. */
export type Choices = readonly (readonly Int32Array[])[];

/** No other layer is replayed beside the one that is looked at. */
const noOther = (): null => null;

const marksOf = (replay: LayerReplay): readonly Int32Array[] =>
  replay.selections.map(({ all, marks, length }) => {
    const row = marks.slice(0, length);
    return all ? row.fill(-1) : row;
  });

/** Replays all steps of a layer and returns what was chosen. */
export const probe = ({ policy, world, trace, layer, steps, after }: ProbeRequest): Choices => {
  const { kvHeads, groupSize, headDim, maxTokens, promptTokens } = world;
  const pristine = Array.from({ length: kvHeads }, (_, kvHead) => ({
    kvHead,
    keys: trace.keys(layer, kvHead),
    values: trace.values(layer, kvHead),
    exact: createExactSteps(1, groupSize, maxTokens, headDim),
  }));
  const heads = pristine.map(({ kvHead, keys, values }) => ({
    kvHead,
    keys: keys.slice(),
    values: values.slice(),
  }));
  const replay = new LayerReplay(policy, world, layer, heads, 1);
  const prompt = (rows: readonly HeadRows[]): PromptView =>
    promptOf({ trace, world, steps }, layer, rows, policy.oracle);
  policy.survey?.(prompt(pristine));
  replay.prefill(prompt(heads));
  after(replay, 'onPrefill');
  const choices: (readonly Int32Array[])[] = [];
  for (let step = 0; step < steps; step++) {
    replay.append();
    after(replay, 'onAppend');
    const queries = pristine.map((_, head) => trace.queries(layer, step, head));
    replay.select(step, (head) => queries[head], noOther);
    choices.push(marksOf(replay));
    after(replay, 'select');
    pristine.forEach(({ keys, values, exact }, head) => {
      attendSteps(exact, [queries[head]], keys, values, headDim, [promptTokens + step + 1]);
    });
    replay.observe(
      step,
      (head) => queries[head],
      noOther,
      (head) => pristine[head].exact.steps[0],
    );
    after(replay, 'observe');
  }
  return choices;
};
