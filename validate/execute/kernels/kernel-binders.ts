/**
 * The kernels that declared work may name: each file of a family binds them, this is the table. What is left over runs as
 * work of the same bytes, flops and launches (docs/validation.md).
 */
import { gate, ringToPage } from './admission.ts';
import { clusterTable } from './cluster-table.ts';
import { hash, match } from './hashes.ts';
import type { KernelBinder } from './kernel-use.ts';
import { observedLogits, ownLogits } from './logits.ts';
import { collide, encode, rerank } from './paris.ts';
import { pqAssign, pqPasses, pqShares } from './pq.ts';
import { lowRankRebuild, rebuild } from './rebuild.ts';
import { rehearsal } from './rehearsal.ts';
import { copy, executionBuffer, gather, tokenIds } from './rows.ts';
import { boundsScore, dotScore, dotShares } from './scores.ts';

interface BoundKernel {
  readonly bind: KernelBinder;
  /** True where one of its calls takes the scores that one before has left: the stack says so of its law. */
  readonly inPasses?: true;
}

export const KERNEL_BINDERS: Readonly<Record<string, BoundKernel>> = {
  'bounds-score': { bind: boundsScore },
  'dot-score': { bind: dotScore },
  'dot-shares': { bind: dotShares, inPasses: true },
  'pq-shares': { bind: pqShares, inPasses: true },
  'pq-passes': { bind: pqPasses },
  'pq-assign': { bind: pqAssign },
  'paris-collide': { bind: collide },
  'paris-rerank': { bind: rerank },
  'paris-encode': { bind: encode },
  'lsh-hash': { bind: hash },
  'lsh-match': { bind: match },
  rehearsal: { bind: rehearsal, inPasses: true },
  'own-logits': { bind: ownLogits, inPasses: true },
  'observed-logits': { bind: observedLogits },
  'cluster-table': { bind: clusterTable },
  gate: { bind: gate },
  'ring-to-page': { bind: ringToPage },
  'delta-rebuild': { bind: rebuild },
  'low-rank-rebuild': { bind: lowRankRebuild },
  copy: { bind: copy },
  gather: { bind: gather },
  'execution-buffer': { bind: executionBuffer },
  'token-ids': { bind: tokenIds },
};
