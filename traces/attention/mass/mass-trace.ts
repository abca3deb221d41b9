/** Block mass as an attention trace that has nothing else: what a file of mass is written from, and replayed. */
import { createDigest, digestOfJson } from '../../../sim/engine/digest.ts';
import type { AttentionTrace, TraceField } from '../../../sim/trace/attention-trace.ts';
import { TraceError } from '../../error.ts';
import type { BlockMassTable } from './parquet-reader.ts';

export const createMassTrace = (name: string, { metadata, mass }: BlockMassTable): AttentionTrace => {
  const { model, promptTokens, steps, recordedLayers, massBlockTokens } = metadata;
  const { layers, heads, kvHeads, headDim } = model;
  const lacks = (field: TraceField) => (): never => {
    throw new TraceError('missing', `${name}: field ${field}: not recorded, found mass only`);
  };
  const digest = (): string => {
    const sum = createDigest();
    sum.addString(digestOfJson({ model, promptTokens, steps, recordedLayers, massBlockTokens }));
    for (const layer of recordedLayers) {
      const { buffer, byteOffset, byteLength } = mass.get(layer) ?? new Float32Array(0);
      sum.addBytes(new Uint8Array(buffer, byteOffset, byteLength));
    }
    return sum.hex();
  };
  return {
    name,
    model: model.name,
    shape: { layers, heads, kvHeads, headDim, promptTokens, steps, recordedLayers },
    get digest() {
      return digest();
    },
    has: (field, layer) => field === 'mass' && mass.has(layer),
    keys: lacks('k'),
    values: lacks('v'),
    queries: lacks('q'),
    promptQueries: lacks('qprompt'),
    prefillMass: lacks('prefillMass'),
    blockMass(layer) {
      const dense = mass.get(layer);
      if (dense === undefined) throw new TraceError('missing', `${name}: mass.${layer}: not recorded`);
      return { blockTokens: massBlockTokens ?? 1, mass: dense };
    },
    learnedScores: (field) => lacks(field)(),
  };
};
