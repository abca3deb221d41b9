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

export const KERNEL_BINDERS: Readonly<Record<string, KernelBinder>> = {
  'bounds-score': boundsScore,
  'dot-score': dotScore,
  'dot-shares': dotShares,
  'pq-shares': pqShares,
  'pq-passes': pqPasses,
  'pq-assign': pqAssign,
  'paris-collide': collide,
  'paris-rerank': rerank,
  'paris-encode': encode,
  'lsh-hash': hash,
  'lsh-match': match,
  rehearsal,
  'own-logits': ownLogits,
  'observed-logits': observedLogits,
  'cluster-table': clusterTable,
  gate,
  'ring-to-page': ringToPage,
  'delta-rebuild': rebuild,
  'low-rank-rebuild': lowRankRebuild,
  copy,
  gather,
  'execution-buffer': executionBuffer,
  'token-ids': tokenIds,
};
