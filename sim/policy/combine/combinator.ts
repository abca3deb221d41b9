/**
 * Combinators make one policy of several: `stack(snapkv,quest)`. They work on any policy through its contract alone.
 * Here is what a combinator is, and how what policies say of themselves adds up: work and bytes are summed, flags hold
 * when one part says so, and what can be true of one part only (codecs, how KV crosses the link) is taken from that one.
 */
import type * as z from 'zod';
import { SimError } from '../../error.ts';
import { createPolicy } from '../create-policy.ts';
import {
  type LayerPolicy,
  type Policy,
  type PolicyPlugin,
  type PromptView,
  policyDefaults,
  type Work,
  type World,
} from '../policy.ts';
import type { Transfer } from '../transfer.ts';

/** A policy within a combination. */
export interface Part {
  readonly name: string;
  readonly plugin: PolicyPlugin;
  readonly config: Readonly<Record<string, unknown>>;
}

/** The one export (`combinator`) of a file in this folder. */
export interface Combinator<S extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  readonly title: string;
  /** Fewest and most policies between its parentheses. */
  readonly parts: readonly [least: number, most: number];
  readonly config: S;
  create(parts: readonly Part[], config: z.infer<S>, world: World): Policy;
}

/** A part's policy, and the share of the KV heads that it has (1 = all). */
export interface Member {
  readonly name: string;
  readonly policy: Policy;
  readonly share: number;
}

export const memberOf = ({ name, plugin, config }: Part, world: World, share = 1): Member => ({
  name,
  policy: createPolicy(plugin, config, world, name),
  share,
});

/** The value of the only member that has one of its own; members that agree count as one. */
const onlyOf = <T>(members: readonly Member[], usual: T, what: string, of: (policy: Policy) => T): T => {
  let found: { readonly name: string; readonly value: T } | null = null;
  for (const { name, policy } of members) {
    const value = of(policy);
    if (value === usual || JSON.stringify(value) === JSON.stringify(usual)) continue;
    if (found !== null && JSON.stringify(found.value) !== JSON.stringify(value)) {
      throw new SimError(
        'not-supported',
        `${found.name} and ${name} both ${what}: at most one policy of a combination may`,
      );
    }
    found ??= { name, value };
  }
  return found === null ? usual : found.value;
};

const scaled = (work: Work, share: number): Work => {
  if (share === 1) return work;
  const bytes = (of: Work['readBytes'] | undefined): Work['readBytes'] =>
    Object.fromEntries(Object.entries(of ?? {}).map(([tier, size]) => [tier, size * share]));
  return {
    ...work,
    readBytes: bytes(work.readBytes),
    writeBytes: bytes(work.writeBytes),
    flops: work.flops * share,
    ...(work.matrixFlops === undefined ? {} : { matrixFlops: work.matrixFlops * share }),
  };
};

const inputsOf = (members: readonly Member[]): string => {
  const notes = members.flatMap(({ name, policy }) =>
    policy.inputs === 'exact' ? [] : [`${name}: ${policy.inputs}`],
  );
  return notes.length === 0 ? 'exact' : [...new Set(notes)].join('; ');
};

/** A layer is dense when it is for all members; a member for which alone it is dense has no say in it. */
const isDenseForAll = (members: readonly Member[]): Policy['isDenseLayer'] => {
  return (layer) => members.every(({ policy }) => policy.isDenseLayer(layer));
};

/** Hooks of each member in a layer; none where the layer is dense for that member but not for all. */
export const hooksIn = (members: readonly Member[], layer: number): readonly LayerPolicy[] => {
  const dense = isDenseForAll(members)(layer);
  return members.map(({ policy }) => (!dense && policy.isDenseLayer(layer) ? {} : policy.layer(layer)));
};

const firstOf = <T>(members: readonly Member[], of: (policy: Policy) => T | null): T | null => {
  for (const { policy } of members) {
    const found = of(policy);
    if (found !== null) return found;
  }
  return null;
};

/**
 * All of a combined policy but its layers; `shown` is what a member sees of a prompt (null = nothing of it). Throws
 * SimError when two parts claim what one alone can have.
 */
export const combined = (
  members: readonly Member[],
  shown: (member: Member, view: PromptView) => PromptView | null = (_, view) => view,
): Omit<Policy, 'layer'> => {
  const sum = (of: (policy: Policy) => number): number =>
    members.reduce((total, { policy, share }) => total + share * of(policy), 0);
  const some = (of: (policy: Policy) => boolean): boolean => members.some(({ policy }) => of(policy));
  const surveyors = members.filter(({ policy }) => policy.survey !== undefined);
  return {
    codecs: onlyOf(members, policyDefaults.codecs, 'code KV', ({ codecs }) => codecs),
    transfer: onlyOf<Transfer>(
      members,
      policyDefaults.transfer,
      'say how KV crosses the link',
      (p) => p.transfer,
    ),
    isDenseLayer: isDenseForAll(members),
    stagingBytes: sum(({ stagingBytes }) => stagingBytes),
    hostStagingBytes: sum(({ hostStagingBytes }) => hostStagingBytes),
    prefillWork: members.flatMap(({ policy, share }) =>
      policy.prefillWork.map((work) => scaled(work, share)),
    ),
    extraPass: onlyOf(members, policyDefaults.extraPass, 'add a pass to the prompt', (p) => p.extraPass),
    waitsForSpills: some(({ waitsForSpills }) => waitsForSpills),
    replicated: some(({ replicated }) => replicated),
    learns: some(({ learns }) => learns),
    oracle: some(({ oracle }) => oracle),
    inputs: inputsOf(members),
    weightBytes: sum(({ weightBytes }) => weightBytes),
    choiceLayer: (layer) => firstOf(members, (policy) => policy.choiceLayer(layer)),
    denseWork: (layer, tokens) => firstOf(members, (policy) => policy.denseWork(layer, tokens)),
    ...(surveyors.length === 0
      ? {}
      : {
          survey(view) {
            for (const member of surveyors) {
              const own = member.policy.isDenseLayer(view.layer) ? null : shown(member, view);
              if (own !== null) member.policy.survey?.(own);
            }
          },
        }),
  };
};
