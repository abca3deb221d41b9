/**
 * FlexGen's placement for a machine and a model of the catalogs, or of your own: the rates are those of the profile and its
 * software stack, the same that time a comparison. What is found for the cache is what policy flexgen takes.
 */
import * as z from 'zod';
import { SimError } from '../error.ts';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { attentionInputGemms, gemmFlops, outputAndMlpGemms } from '../model/gemms.ts';
import { kvBytesPerTokenLayer, weightBytes } from '../model/ledger.ts';
import { loadModel } from '../model/models.ts';
import type { ModelShape } from '../model/shape.ts';
import { firstIssue } from '../near-names.ts';
import { type Machine, resolveMachine } from '../timing/cost.ts';
import {
  bestPlacement,
  type Placement,
  type PlacementDemand,
  type PlacementRates,
  placeBlock,
} from './flexgen-placement.ts';

const share = z.number().min(0).max(1);
const shares = z
  .strictObject({ hbm: share, dram: share, nvme: share })
  .refine(
    ({ hbm, dram, nvme }) => Math.abs(hbm + dram + nvme - 1) < 1e-9,
    'expected shares that add up to 1',
  );
const oneOrMore = z.int().min(1);

const placementRequestSchema = z.strictObject({
  hardware: z.union([z.string(), z.record(z.string(), z.unknown())]).describe('profile, by name or as it is'),
  stack: z.union([z.string(), z.record(z.string(), z.unknown())]).optional(),
  model: z.union([z.string(), z.record(z.string(), z.unknown())]).describe('model, by name or config.json'),
  promptTokens: oneOrMore,
  generatedTokens: oneOrMore,
  attendAt: z.enum(['cpu', 'gpu']).default('cpu').describe('where KV outside HBM is attended'),
  /** Of each tier's capacity; the published search leaves a fifth (cost_model.py alpha). */
  fill: z.number().positive().max(1).default(0.8),
  elementBytes: z.number().positive().default(2).describe('bytes of a KV or activation element'),
  /** Shares that are given: a server that keeps all weights on the GPU says weights { hbm: 1, dram: 0, nvme: 0 }. */
  fixed: z
    .strictObject({ weights: shares.optional(), cache: shares.optional(), activations: shares.optional() })
    .default({}),
  /** Sequences of a block at most: its steps, and so the time to a token, grow with them. */
  mostSequences: oneOrMore.optional(),
  /** One block size instead of the search for the best. */
  block: z.strictObject({ batch: oneOrMore, batches: oneOrMore }).optional(),
});
export type PlacementInput = z.input<typeof placementRequestSchema>;

/** A drive of unknown size: more than anything takes. */
const UNKNOWN_BYTES = 2 ** 60;

/** One layer of the middle; embeddings and output head are spread over the layers. */
const demandOf = (
  model: ModelShape,
  { promptTokens, generatedTokens, elementBytes }: z.output<typeof placementRequestSchema>,
): PlacementDemand => {
  const gemms = [...attentionInputGemms(model, 1), ...outputAndMlpGemms(model, model.layers >> 1, 1)];
  const workBytes = (2 * model.hidden + 2 * model.intermediate) * elementBytes;
  return {
    layers: model.layers,
    promptTokens,
    generatedTokens,
    weightBytes: weightBytes(model) / model.layers,
    kvBytes: kvBytesPerTokenLayer(model, elementBytes),
    activationBytes: model.hidden * elementBytes,
    denseFlops: gemmFlops(gemms),
    // Causal: a prompt's token sees half of it.
    attentionFlops: model.heads * (model.headDim + model.valueHeadDim),
    promptWorkBytes: promptTokens * workBytes,
    stepWorkBytes: workBytes,
  };
};

const ratesOf = (machine: Machine): PlacementRates => {
  const { link, nvme, gemm, prefillAttention, decodeAttention, dram } = machine;
  const toNvme = nvme?.writeBytesPerNs ?? 1;
  return {
    toGpu: link.h2d.bytesPerNs,
    kvFromGpu: link.d2h.bytesPerNs,
    activationsFromGpu: link.d2h.bytesPerNs,
    fromNvme: nvme?.readBytesPerNs ?? 1,
    kvToNvme: toNvme,
    stepToNvme: toNvme,
    promptFlops: gemm.flopsPerNs.bf16,
    promptAttentionFlops: prefillAttention.maxFlopsPerNs,
    stepFlops: gemm.flopsPerNs.bf16,
    weightReads: gemm.bytesPerNs,
    gpuAttention: decodeAttention.bytesPerNs,
    cpuAttention: dram.readBytesPerNs,
  };
};

/** The best placement, or null where nothing fits. Throws SimError on bad input, naming the field. */
export const flexgenPlacement = (input: PlacementInput): Placement | null => {
  const parsed = placementRequestSchema.safeParse(input);
  if (!parsed.success) throw new SimError('invalid-input', `placement: ${firstIssue(parsed.error.issues)}`);
  const given = parsed.data;
  const machine = resolveMachine(loadProfile(given.hardware), loadStack(given.stack));
  const rates = ratesOf(machine);
  const { hbm, dram, nvme = machine.nvme === null ? 0 : UNKNOWN_BYTES } = machine.capacityBytes;
  const { weights, cache, activations } = given.fixed;
  const request = {
    demand: demandOf(loadModel(given.model), given),
    rates: () => rates,
    capacity: { hbm: given.fill * hbm, dram: given.fill * dram, nvme: given.fill * nvme },
    attendAt: given.attendAt,
    fixed: {
      ...(weights ? { weights } : {}),
      ...(cache ? { cache } : {}),
      ...(activations ? { activations } : {}),
    },
  };
  const { block } = given;
  return block === undefined
    ? bestPlacement(request, given.mostSequences)
    : placeBlock(request, block.batch, block.batches);
};
