/**
 * kvtier as a library: the same run as `kvtier compare`, the contract of a policy, and the measures. What is not here
 * is internal and may change.
 */
export { type CompareInput, type CompareRun, compare } from './sim/decode/compare.ts';
export { SimError } from './sim/error.ts';
export { type CompareExperiment, compareExperimentSchema } from './sim/experiment.ts';
export { flexgenPlacement, type PlacementInput } from './sim/plan/flexgen-machine.ts';
export type { Placement } from './sim/plan/flexgen-placement.ts';
export type { Codec, CodedBlock } from './sim/policy/codec.ts';
export { createPolicy } from './sim/policy/create-policy.ts';
export { type ExtraPolicies, findPolicy } from './sim/policy/find-policy.ts';
export type {
  AppendView,
  DenseWork,
  ExtraPass,
  HeadRows,
  HeadView,
  LayerPolicy,
  LayerView,
  OtherLayer,
  Pick,
  Policy,
  PolicyPlugin,
  PrefillView,
  PromptView,
  StepView,
  TopK,
  WindowQueries,
  Work,
  World,
} from './sim/policy/policy.ts';
export { policyDefaults } from './sim/policy/policy.ts';
export type { Transfer } from './sim/policy/transfer.ts';
export { type KvFootprint, type KvFootprintInput, kvFootprint } from './sim/quality/footprint.ts';
export type { EstimatedRows } from './sim/quality/selection.ts';
export { type CompareResult, compareResultSchema, type PolicyResult, RESULT_FORMAT } from './sim/result.ts';
export type { AttentionTrace, AttentionTraceShape, TraceField } from './sim/trace/attention-trace.ts';
export { windowTrace } from './sim/trace/window.ts';
export { type AttentionFile, openAttentionFile } from './traces/attention/node-file.ts';
export { replayExperiment } from './traces/attention/replay.ts';
export { createSyntheticTrace, type SyntheticTrace } from './traces/attention/synthetic.ts';
export { TraceError } from './traces/error.ts';
