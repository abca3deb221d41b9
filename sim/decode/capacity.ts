/**
 * The byte ledger of a run: what lies in each tier at its peak, and whether it fits. KV residency comes from the
 * replay; layers that were not replayed are represented by their nearest neighbour.
 */
import { layerContextTokens, weightBytes } from '../model/ledger.ts';
import type { ModelShape } from '../model/shape.ts';
import type { Policy } from '../policy/policy.ts';
import type { HeldBytes } from '../quality/footprint.ts';
import type { LayerResidency } from './demand.ts';
import type { LayerRecord } from './replay.ts';

export interface Residency {
  readonly hbm: { readonly peakBytes: number; readonly kvPeakBytes: number };
  readonly dram: { readonly peakBytes: number; readonly kvPeakBytes: number };
  /** Absent where nothing ever lies there. */
  readonly nvme?: { readonly peakBytes: number; readonly kvPeakBytes: number };
}

export interface CapacityInput {
  readonly model: ModelShape;
  readonly policy: Policy;
  readonly batch: number;
  readonly promptTokens: number;
  readonly steps: number;
  readonly elementBytes: number;
  readonly dense: boolean;
  /** Record that stands for each layer; null = dense or sliding attention in HBM. */
  readonly records: readonly (LayerRecord | null)[];
}

/** Prompts are prefilled in chunks of at most this many tokens; activations are sized for one chunk. */
const PREFILL_CHUNK_TOKENS = 8192;

/** Activations of one prefill chunk (residual, normed, gate and up) and the logits of a batch, bytes. */
const activationBytes = ({ model, promptTokens, batch, elementBytes }: CapacityInput): number => {
  const { moe, hidden, intermediate, vocab } = model;
  const width = moe ? moe.expertsPerToken * moe.expertIntermediate + moe.sharedIntermediate : intermediate;
  const chunk = Math.min(promptTokens * batch, PREFILL_CHUNK_TOKENS);
  return chunk * (2 * hidden + 2 * Math.max(width, intermediate)) * elementBytes + batch * vocab * 4;
};

/** Bytes by tier of all layers at one moment; `of` picks the moment from a replayed layer's record. */
const residentAt = (input: CapacityInput, tokens: number, of: (record: LayerRecord) => LayerResidency) => {
  const { model, batch, records, elementBytes } = input;
  const rowBytes = model.kvRowElements * elementBytes;
  let hbm = 0;
  let dram = 0;
  let nvme = 0;
  records.forEach((record, layer) => {
    if (record === null) {
      hbm += layerContextTokens(model, layer, tokens) * rowBytes;
      return;
    }
    const resident = of(record);
    hbm += resident.hbmBytes;
    dram += resident.dramBytes;
    nvme += resident.nvmeBytes;
  });
  const heads = model.kvHeads * batch;
  return { hbm: hbm * heads, dram: dram * heads, nvme: nvme * heads };
};

/** HBM bytes of KV and index of all layers after each decode step, the whole batch; staging left out. */
export const kvBytesPerStep = (input: CapacityInput): Float64Array =>
  Float64Array.from(
    { length: input.steps },
    (_, step) => residentAt(input, input.promptTokens + step + 1, (record) => record.residency[step]).hbm,
  );

/** Bytes per tier after each decode step, all layers of one sequence, and those of dense attention. */
export const heldBytesPerStep = (input: CapacityInput): HeldBytes => {
  const { model, promptTokens, elementBytes, batch, steps, records } = input;
  const lengths = Array.from({ length: steps }, (_, step) => promptTokens + step + 1);
  const held = lengths.map((tokens, step) => residentAt(input, tokens, (record) => record.residency[step]));
  const rowBytes = model.kvRowElements * elementBytes * model.kvHeads;
  return {
    hbm: held.map(({ hbm }) => hbm / batch),
    dram: held.map(({ dram }) => dram / batch),
    nvme: held.map(({ nvme }) => nvme / batch),
    dense: lengths.map((tokens) =>
      records.reduce((sum, _, layer) => sum + layerContextTokens(model, layer, tokens) * rowBytes, 0),
    ),
  };
};

export const residencyOf = (input: CapacityInput): Residency => {
  const { model, batch, promptTokens, steps, records, policy, elementBytes, dense } = input;
  const prefilled = residentAt(input, promptTokens, (record) => record.afterPrefill);
  // While a layer is being prefilled its whole prompt is in HBM, whatever its policy keeps afterwards; passes of the
  // model that follow the prompt read all layers of it.
  const layerBytes = promptTokens * model.kvRowElements * elementBytes;
  const readsAll = policy.extraPass !== null && policy.extraPass.passes > 0;
  let transient = 0;
  for (const record of records) {
    const freed = record === null ? 0 : Math.max(0, layerBytes - record.afterPrefill.hbmBytes);
    transient = readsAll ? transient + freed : Math.max(transient, freed);
  }
  let hbm = prefilled.hbm + transient * model.kvHeads * batch;
  let { dram, nvme } = prefilled;
  for (let step = 0; step < steps; step++) {
    const now = residentAt(input, promptTokens + step + 1, (record) => record.residency[step]);
    hbm = Math.max(hbm, now.hbm + policy.stagingBytes * batch);
    dram = Math.max(dram, now.dram + policy.hostStagingBytes * batch);
    nvme = Math.max(nvme, now.nvme);
  }
  const other = activationBytes(input) + (dense ? weightBytes(model) + policy.weightBytes : 0);
  return {
    hbm: { peakBytes: hbm + other, kvPeakBytes: hbm },
    dram: { peakBytes: dram, kvPeakBytes: dram },
    ...(nvme > 0 ? { nvme: { peakBytes: nvme, kvPeakBytes: nvme } } : {}),
  };
};

/** KV bytes in DRAM of one of the layers that keep some there, mean over them, all sequences. */
export const bytesPerLayer = ({ dram }: Residency, records: readonly (LayerRecord | null)[]): number =>
  dram.kvPeakBytes /
  Math.max(1, records.filter((record) => (record?.afterPrefill.dramBytes ?? 0) > 0).length);

/** Bytes missing per tier; empty when everything fits, as far as capacities are known. */
export const shortfall = (
  residency: Residency,
  capacity: { readonly hbm: number; readonly dram: number; readonly nvme?: number | undefined },
): Record<string, number> => {
  const short: Record<string, number> = {};
  if (residency.hbm.peakBytes > capacity.hbm) short.hbm = residency.hbm.peakBytes - capacity.hbm;
  if (residency.dram.peakBytes > capacity.dram) short.dram = residency.dram.peakBytes - capacity.dram;
  const { nvme } = residency;
  if (nvme !== undefined && capacity.nvme !== undefined && nvme.peakBytes > capacity.nvme)
    short.nvme = nvme.peakBytes - capacity.nvme;
  return short;
};

/** KV entries alive after each step, mean over all layers and KV heads, in tokens. */
export const liveTokensPerStep = (input: CapacityInput): readonly number[] =>
  Array.from({ length: input.steps }, (_, step) => {
    const tokens = input.promptTokens + step + 1;
    let live = 0;
    input.records.forEach((record, layer) => {
      live +=
        record === null ? layerContextTokens(input.model, layer, tokens) : record.residency[step].liveTokens;
    });
    return live / input.records.length;
  });
