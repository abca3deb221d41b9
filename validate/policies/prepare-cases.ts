/**
 * Cases of a validation: policies are replayed once a context and budget, and lowered for every batch over as many layers
 * as memory holds. Layers of a model are alike, so fewer of them make a shorter step, not another one.
 */
import type { StepReplay } from '../../sim/decode/step-program.ts';
import { bindStep } from '../execute/bind.ts';
import { type Workload, workloadsOf } from '../execute/workload.ts';
import type { PreparedCase } from './pack.ts';

export interface CaseRequest {
  readonly context: number;
  readonly batches: readonly number[];
  readonly budget: number | null;
  readonly trace: PreparedCase['trace'];
  /** Layers at most, and bytes of each tier that a case may take. */
  readonly layers: number;
  readonly memoryBytes: number;
}

/** Bytes of the tier that a workload fills most. */
const bytesOf = (workload: Workload): number => {
  const { layout } = bindStep(workload).binding;
  return Math.max(layout.bytesIn('hbm'), layout.bytesIn('dram') + layout.bytesIn('pageable'));
};

/** The workload of one policy over as many layers as fit; one that does not fit with one layer is left as it is. */
const fitting = (
  replay: StepReplay,
  at: number,
  workload: Workload,
  { context, memoryBytes }: CaseRequest,
): Workload => {
  const layers = workload.program.layers.length;
  const bytes = bytesOf(workload);
  if (bytes <= memoryBytes || layers === 1) return workload;
  const fewer = Math.max(1, Math.min(layers - 1, Math.floor((0.95 * layers * memoryBytes) / bytes)));
  return workloadsOf(replay, context, workload.batch, fewer)[at];
};

export const casesOf = (replay: StepReplay, request: CaseRequest): readonly PreparedCase[] => {
  const { context, batches, budget, trace } = request;
  const layers = Math.min(request.layers, replay.model.layers);
  return batches.flatMap((batch) =>
    workloadsOf(replay, context, batch, layers).map((workload, at) => ({
      workload: fitting(replay, at, workload, request),
      trace,
      budget,
    })),
  );
};
