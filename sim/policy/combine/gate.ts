/**
 * `gate(p)`: admission at a tier boundary. What p moves out of HBM is admitted to DRAM only if it is among the prompt's
 * best by the votes of its last queries; the rest is dropped where it would have crossed. Generated tokens are admitted.
 * The idea is that of store thresholds in tiered prefix caches (vLLM's CPU offload, SGLang HiCache's
 * write_through_selective, Dynamo KVBM's frequency gate), taken inside a decode; from code, any rule.
 */
import * as z from 'zod';
import { topKPositions } from '../../quality/top-k.ts';
import type { Policy, PrefillView, World } from '../policy.ts';
import { reduceGroup, windowInputs, windowVotes, windowWork } from '../votes.ts';
import { type Combinator, combined, hooksIn, type Member, memberOf } from './combinator.ts';

/** Decides, when a layer's prompt has been read, which tokens of a head may enter DRAM. */
export type Admission = (view: PrefillView, head: number) => (token: number) => boolean;

/** A member whose moves out of HBM pass the gate. */
const gatedPolicy = (member: Member, admission: Admission): Policy => ({
  ...combined([member]),
  layer(layer) {
    const [hooks] = hooksIn([member], layer);
    const { select, observe } = hooks;
    return {
      onPrefill(view) {
        view.heads.forEach(({ cache }, head) => {
          const isAdmitted = admission(view, head);
          cache.isShared = true;
          cache.admits = (token, tier) => tier === 'hbm' || isAdmitted(token);
        });
        hooks.onPrefill?.(view);
      },
      onAppend: (view) => hooks.onAppend?.(view),
      ...(select ? { select: (view, picks) => select.call(hooks, view, picks) } : {}),
      ...(observe ? { observe: (view, rows) => observe.call(hooks, view, rows) } : {}),
    };
  },
});

/** The best `share` of the prompt by the votes of its last queries, mean over the group. */
const bestByVotes =
  (share: number, windowTokens: number, world: World): Admission =>
  (view, head) => {
    const n = view.length;
    const votes = reduceGroup(windowVotes(view, head, windowTokens, world), world.groupSize, n, 'mean');
    const best = new Int32Array(n);
    const count = topKPositions(votes, n, Math.ceil(share * n), best);
    const isBest = new Uint8Array(n);
    for (let i = 0; i < count; i++) isBest[best[i]] = 1;
    return (token) => token >= n || isBest[token] === 1;
  };

const config = z.object({
  keep: z.number().min(0).max(1).default(0.5).describe("share of a KV head's prompt that may enter DRAM"),
  windowTokens: z.int().min(1).default(32).describe('last prompt queries that vote'),
});

export const combinator = {
  name: 'gate',
  title: 'a policy whose KV enters DRAM only where recent queries care for it; the rest is dropped',
  parts: [1, 1],
  config,
  create([part], { keep, windowTokens }, world) {
    const { policy, ...member } = memberOf(part, world);
    const votes = windowInputs(world);
    const notes = [policy.inputs, votes].filter((note) => note !== 'exact');
    const gated = {
      ...policy,
      inputs: notes.length === 0 ? 'exact' : notes.join('; '),
      prefillWork: [...policy.prefillWork, windowWork(world, windowTokens)],
    };
    return gatedPolicy({ ...member, policy: gated }, bestByVotes(keep, windowTokens, world));
  },
} satisfies Combinator<typeof config>;
