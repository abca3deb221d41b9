/** A preset from what a fit wrote: every head of the model by its own profile, and what each task changes in it. */
import type { HeadProfile, SyntheticPreset, SyntheticShape, TaskProfile, TextProfile } from './preset.ts';
import { decodeAttended, decodeProfile } from './profile-code.ts';

/** Mean lengths that coherence is fitted to, and a vocabulary of which a few thousand tokens occur in a long prompt. */
export const fittedText: TextProfile = {
  wordTokens: 2,
  sentenceTokens: 10,
  passageTokens: 100,
  vocabulary: 4096,
  questionTokens: 30,
  evidencePlace: 0.5,
};

/** A task as a fit writes it: one line for the attention of all heads. */
export interface TaskTable {
  readonly questionTokens: number;
  readonly evidencePlace: number;
  readonly attended: string;
}

/** As a fit writes it: a line a KV head, layer by layer, the mean of all tasks, and each task. */
export interface FittedTables {
  readonly name: string;
  readonly shape: SyntheticShape;
  readonly profiles: readonly string[];
  readonly mean: TaskTable;
  readonly tasks: Readonly<Record<string, TaskTable>>;
}

export interface FittedPreset extends SyntheticPreset {
  readonly shape: SyntheticShape;
  profile(layer: number, kvHead: number): HeadProfile;
  /** Of a task; the mean of all for null and for a task that was not fitted. */
  task(name: string | null): TaskProfile;
}

export function fittedPreset({ name, shape, profiles, mean, tasks }: FittedTables): FittedPreset {
  const decoded = new Map<number, HeadProfile>();
  const profile = (layer: number, kvHead: number): HeadProfile => {
    const at = layer * shape.kvHeads + kvHead;
    const known =
      decoded.get(at) ?? decodeProfile(profiles[at], shape.headDim / 2, shape.heads / shape.kvHeads);
    decoded.set(at, known);
    return known;
  };
  const task = (wanted: string | null): TaskProfile => {
    const { questionTokens, evidencePlace, attended } =
      wanted !== null && Object.hasOwn(tasks, wanted) ? tasks[wanted] : mean;
    return {
      questionTokens,
      evidencePlace,
      attended: (layer, kvHead) => decodeAttended(attended, layer * shape.kvHeads + kvHead),
    };
  };
  return {
    name,
    shape,
    tasks: Object.keys(tasks),
    profile,
    task,
    text(wanted) {
      const { questionTokens, evidencePlace } = task(wanted);
      return { ...fittedText, questionTokens, evidencePlace };
    },
    plan: (_, layer, kvHead, _random, wanted) => ({
      profile: profile(layer, kvHead),
      attended: task(wanted).attended(layer, kvHead),
    }),
  };
}
