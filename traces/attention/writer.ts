/**
 * Turns any AttentionTrace (recorded or synthetic) into the tensors and metadata of a `kvtier.attention/1` file,
 * one KV head at a time, so that a long trace streams to disk. The metadata is checked before a byte is written.
 */
import type { AttentionTrace, TraceField } from '../../sim/trace/attention-trace.ts';
import { TraceError } from '../error.ts';
import { encodeFloat16 } from './half.ts';
import { expectedShape } from './layout.ts';
import { type AttentionMetadata, checkAttentionMetadata } from './metadata.ts';
import type { TensorToWrite } from './safetensors-writer.ts';

/** Fields that the AttentionTrace interface can hand out. */
const writableFields = ['k', 'v', 'q', 'qprompt', 'prefillMass', 'mass'] as const;
type WritableField = (typeof writableFields)[number];

/** The metadata map of the file; throws TraceError when the metadata is not valid. */
export function encodeAttentionMetadata(metadata: AttentionMetadata): Readonly<Record<string, string>> {
  checkAttentionMetadata(metadata, 'metadata to write');
  return { kvtier: JSON.stringify(metadata) };
}

/** The tensors that `metadata` declares, taken from `trace`. F16 rounds to nearest; out of its range is an error. */
export function attentionTensors(
  trace: AttentionTrace,
  metadata: AttentionMetadata,
  dtype: 'F16' | 'F32',
): readonly TensorToWrite[] {
  return metadata.fields.flatMap((field) =>
    metadata.recordedLayers.map((layer) => {
      if (!isWritable(field) || !trace.has(field, layer)) {
        throw new TraceError(
          'missing',
          `${trace.name}: field ${field} of layer ${layer}: expected in the trace`,
        );
      }
      const shape = expectedShape(field, metadata).map(([, size]) => size ?? 0);
      const name = `${field}.${layer}`;
      return { name, dtype, shape, chunks: () => encodeSlabs(trace, field, layer, dtype) };
    }),
  );
}

function isWritable(field: TraceField): field is WritableField {
  return (writableFields as readonly string[]).includes(field);
}

function* encodeSlabs(
  trace: AttentionTrace,
  field: WritableField,
  layer: number,
  dtype: 'F16' | 'F32',
): Generator<Uint8Array> {
  for (const slab of slabsOf(trace, field, layer)) {
    const bytes = new Uint8Array(slab.length * (dtype === 'F16' ? 2 : 4));
    if (dtype === 'F16') {
      if (slab.some((x) => Math.abs(x) > 65504)) {
        throw new TraceError(
          'invalid-input',
          `${trace.name}: ${field}.${layer}: expected values within ±65504 (F16)`,
        );
      }
      encodeFloat16(slab, bytes);
    } else {
      const view = new DataView(bytes.buffer);
      for (let i = 0; i < slab.length; i++) view.setFloat32(i * 4, slab[i], true);
    }
    yield bytes;
  }
}

/** Prompt queries by token, as the file lays them out: the groups of all KV heads side by side. */
function* promptRows(trace: AttentionTrace, layer: number): Generator<Float32Array> {
  const { kvHeads, heads, headDim } = trace.shape;
  const groups = Array.from({ length: kvHeads }, (_, kvHead) => trace.promptQueries(layer, kvHead));
  const size = (heads / kvHeads) * headDim;
  for (let w = 0; w < groups[0].windowTokens; w++) {
    for (const { q } of groups) yield q.subarray(w * size, (w + 1) * size);
  }
}

function* slabsOf(trace: AttentionTrace, field: WritableField, layer: number): Generator<Float32Array> {
  const { kvHeads, steps } = trace.shape;
  switch (field) {
    case 'k':
      for (let kvHead = 0; kvHead < kvHeads; kvHead++) yield trace.keys(layer, kvHead);
      break;
    case 'v':
      for (let kvHead = 0; kvHead < kvHeads; kvHead++) yield trace.values(layer, kvHead);
      break;
    case 'q':
      for (let step = 0; step < steps; step++) {
        for (let kvHead = 0; kvHead < kvHeads; kvHead++) yield trace.queries(layer, step, kvHead);
      }
      break;
    case 'qprompt':
      yield* promptRows(trace, layer);
      break;
    case 'prefillMass':
      yield trace.prefillMass(layer);
      break;
    case 'mass':
      yield trace.blockMass(layer).mass;
      break;
    default:
      field satisfies never;
  }
}
