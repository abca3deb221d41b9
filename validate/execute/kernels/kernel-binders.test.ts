/** What the table says of kernels in passes is what their calls do. */
import { expect, test, vi } from 'vitest';
import type { ScoreOperation } from '../../../sim/program/operation.ts';
import { works, world } from '../../microbench/declared-kinds.ts';
import { Binding } from '../binding.ts';
import { KERNEL_BINDERS } from './kernel-binders.ts';
import { LOGITS, SCORES } from './kernel-use.ts';

const operation: ScoreOperation = {
  kind: 'score',
  index: 'any',
  readBytes: {},
  writeBytes: {},
  flops: 0,
  kernels: 1,
  where: 'gpu',
  layer: 0,
  stream: 'compute',
  after: [],
};

const calls = new Map(works(world).flatMap(({ call }) => (call === undefined ? [] : [[call.kernel, call]])));

test.each([...calls])('%s is in passes where a call takes the scores of one before', (kernel, call) => {
  const binding = new Binding([operation]);
  const left = vi.spyOn(binding, 'left');
  binding.begin(0);
  const { kvHeads, groupSize: group, headDim } = world;
  const bytes = 4 * world.heads * Math.round(call.counts.tokens ?? 0);
  binding.leave(LOGITS, binding.layout.place('scores', bytes), bytes);
  const { bind, inPasses = false } = KERNEL_BINDERS[kernel];
  expect(bind({ binding, rows: kvHeads, batch: 1, kvHeads, group, headDim, perQuery: false, call })).not.toBe(
    null,
  );
  const takesScores = left.mock.results.some(
    ({ value }, at) => left.mock.calls[at][0] === SCORES && value !== undefined,
  );
  expect(takesScores).toBe(inPasses);
});
