/**
 * Opens a `kvtier.attention/1` file as an AttentionTrace: header and metadata are checked at once, tensors are read
 * by range and decoded to float32 one KV head at a time, so memory stays bounded whatever the file's size.
 * Arrays may come from a cache and are to be read only.
 */
import * as z from 'zod';
import { createDigest, digestOfJson } from '../../sim/engine/digest.ts';
import type { AttentionTrace, AttentionTraceShape, TraceField } from '../../sim/trace/attention-trace.ts';
import { ropeOf } from '../../sim/trace/rope.ts';
import { TraceError } from '../error.ts';
import type { ByteSource } from './byte-source.ts';
import { decodeBfloat16, decodeFloat16, decodeFloat32 } from './half.ts';
import { checkLayout, isCompanion } from './layout.ts';
import { ArrayCache } from './lru.ts';
import { type AttentionMetadata, parseAttentionMetadata } from './metadata.ts';
import { dtypeBytes, openSafetensors, type SafetensorsFile, type TensorEntry } from './safetensors.ts';

export interface RecordedTrace extends AttentionTrace {
  readonly metadata: AttentionMetadata;
  /** Norms of the values of one KV head [promptTokens + steps]: recorded, or computed from `v`. */
  valueNorms(layer: number, kvHead: number): Float32Array;
}

export interface ReaderOptions {
  /** Bytes of decoded tensors to keep; default 256 MiB. */
  readonly cacheBytes?: number;
}

/** Up to this many bytes of tensors, the digest covers every byte; above, 64 samples of 16 KiB of each tensor. */
const fullDigestBytes = 64 * 2 ** 20;
const sampleBytes = 16384;
const samplesPerTensor = 64;

/** Throws TraceError, one line, when the file is broken or contradicts itself. `name` is what messages call it. */
export function openAttentionTrace(
  source: ByteSource,
  name: string,
  options: ReaderOptions = {},
): RecordedTrace {
  const file = openSafetensors(source, name);
  const metadata = parseAttentionMetadata(file.metadata, name);
  checkLayout(file, metadata);
  const shape = shapeOf(metadata);
  const cache = new ArrayCache(options.cacheBytes ?? 256 * 2 ** 20);
  const slab = (field: TraceField, layer: number, index: number | null): Float32Array => {
    const entry = entryOf(file, field, layer);
    if (index !== null && !(Number.isInteger(index) && index >= 0 && index < entry.shape[0])) {
      throw new TraceError(
        'invalid-input',
        `${name}: ${field}.${layer}: no index ${index} in ${entry.shape[0]}`,
      );
    }
    return cache.get(`${field}.${layer}.${index}`, () => decodeSlab(file, entry, index));
  };
  let digest: string | null = null;
  const trace: RecordedTrace = {
    name,
    shape,
    model: metadata.model.name,
    metadata,
    evidenceTokens: evidenceOf(metadata),
    rope: metadata.rope ? ropeOf(metadata.rope, shape.headDim) : null,
    get digest() {
      digest ??= digestOf(file, metadata);
      return digest;
    },
    has: (field, layer) => metadata.fields.includes(field) && shape.recordedLayers.includes(layer),
    keys: (layer, kvHead) => slab('k', layer, kvHead),
    values: (layer, kvHead) => slab('v', layer, kvHead),
    valueNorms: (layer, kvHead) =>
      trace.has('vnorm', layer)
        ? slab('vnorm', layer, kvHead)
        : cache.get(`|v|.${layer}.${kvHead}`, () => rowNorms(trace.values(layer, kvHead), shape.headDim)),
    queries: (layer, step, kvHead) => groupOf(slab('q', layer, step), kvHead, shape),
    promptQueries(layer, kvHead) {
      const rows = slab('qprompt', layer, null);
      const windowTokens = metadata.promptWindowTokens ?? 0;
      const q = cache.get(`qprompt.${layer}.${kvHead}`, () => {
        const width = shape.heads * shape.headDim;
        const size = width / shape.kvHeads;
        const group = new Float32Array(windowTokens * size);
        for (let w = 0; w < windowTokens; w++) {
          group.set(groupOf(rows.subarray(w * width, (w + 1) * width), kvHead, shape), w * size);
        }
        return group;
      });
      return { windowTokens, q };
    },
    prefillMass: (layer) => slab('prefillMass', layer, null),
    blockMass: (layer) => ({
      blockTokens: metadata.massBlockTokens ?? 1,
      mass: slab('mass', layer, null),
    }),
    learnedScores: (field, layer, kvHead) => slab(field, layer, kvHead),
  };
  return trace;
}

/** The rows of one KV head's query group out of a [heads, headDim] matrix: a view. */
function groupOf(rows: Float32Array, kvHead: number, shape: AttentionTraceShape): Float32Array {
  const size = (shape.heads / shape.kvHeads) * shape.headDim;
  return rows.subarray(kvHead * size, (kvHead + 1) * size);
}

const evidenceSchema = z.array(z.tuple([z.int().min(0), z.int().min(1)]));

/** Where the prompt's text says that the answer stands; none where it says nothing that can be read. */
function evidenceOf({ text, promptTokens }: AttentionMetadata): readonly (readonly [number, number])[] {
  const ranges = evidenceSchema.safeParse(text.evidenceTokens);
  return ranges.success ? ranges.data.filter(([from, to]) => from < to && to <= promptTokens) : [];
}

function shapeOf({ model, promptTokens, steps, recordedLayers }: AttentionMetadata): AttentionTraceShape {
  const { layers, heads, kvHeads, headDim } = model;
  return { layers, heads, kvHeads, headDim, promptTokens, steps, recordedLayers };
}

function entryOf(file: SafetensorsFile, field: TraceField, layer: number): TensorEntry {
  const entry = file.tensors.get(`${field}.${layer}`);
  if (!entry) {
    const recorded = [...file.tensors.keys()].filter((tensor) => !isCompanion(tensor)).join(', ');
    const message = `${file.name}: tensor "${field}.${layer}": not recorded (recorded: ${recorded})`;
    throw new TraceError('missing', message);
  }
  return entry;
}

/** Decodes slab `index` of the first axis, or the whole tensor, and proves that every number can be computed with. */
function decodeSlab(file: SafetensorsFile, entry: TensorEntry, index: number | null): Float32Array {
  const slabs = index === null ? 1 : entry.shape[0];
  const dst = decodeRange(file, entry, index ?? 0, slabs);
  const scale = entry.dtype === 'I8' ? file.tensors.get(`${entry.name}.scale`) : undefined;
  if (scale) {
    const parts = index === null ? entry.shape[0] : 1;
    const rows = entry.shape[1];
    const channels = entry.shape[2];
    const scales = decodeRange(file, scale, index ?? 0, slabs);
    // Per row where both fit, as in the format's description.
    if (scale.shape[1] === rows) scaleRows(dst, scales, channels);
    else scaleChannels(dst, scales, parts, rows, channels);
    const offset = file.tensors.get(`${entry.name}.offset`);
    if (offset) shiftChannels(dst, decodeRange(file, offset, index ?? 0, slabs), parts, rows, channels);
  }
  checkNumbers(dst, file.name, entry, index);
  return dst;
}

function decodeRange(file: SafetensorsFile, entry: TensorEntry, index: number, slabs: number): Float32Array {
  const sizeBytes = entry.sizeBytes / slabs;
  const bytes = file.source.read(entry.offset + index * sizeBytes, sizeBytes);
  const dst = new Float32Array(sizeBytes / dtypeBytes[entry.dtype]);
  if (entry.dtype === 'F16') decodeFloat16(bytes, dst);
  else if (entry.dtype === 'BF16') decodeBfloat16(bytes, dst);
  else if (entry.dtype === 'F32') decodeFloat32(bytes, dst);
  else dst.set(new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  return dst;
}

function scaleRows(dst: Float32Array, scales: Float32Array, channels: number): void {
  for (let row = 0, i = 0; row < scales.length; row++) {
    const scale = scales[row];
    for (const end = i + channels; i < end; i++) dst[i] *= scale;
  }
}

function scaleChannels(
  dst: Float32Array,
  scales: Float32Array,
  parts: number,
  rows: number,
  channels: number,
): void {
  for (let part = 0, i = 0; part < parts; part++) {
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < channels; c++, i++) dst[i] *= scales[part * channels + c];
    }
  }
}

function shiftChannels(
  dst: Float32Array,
  offsets: Float32Array,
  parts: number,
  rows: number,
  channels: number,
): void {
  for (let part = 0, i = 0; part < parts; part++) {
    for (let row = 0; row < rows; row++) {
      for (let c = 0; c < channels; c++, i++) dst[i] += offsets[part * channels + c];
    }
  }
}

/** Rows of 4,096 numbers up to this size have products that a float32 holds. */
const mostSize = 2 ** 56;

function checkNumbers(dst: Float32Array, file: string, entry: TensorEntry, index: number | null): void {
  let at = 0;
  while (at < dst.length && dst[at] <= mostSize && dst[at] >= -mostSize) at++;
  if (at === dst.length) return;
  const where = `element ${at + (index ?? 0) * dst.length}`;
  const expected = Number.isFinite(dst[at]) ? 'a number of at most 2^56 in size' : 'a finite number';
  throw new TraceError(
    'malformed',
    `${file}: tensor "${entry.name}": ${where}: expected ${expected}, found ${dst[at]}`,
  );
}

function rowNorms(rows: Float32Array, width: number): Float32Array {
  const norms = new Float32Array(rows.length / width);
  for (let row = 0, i = 0; row < norms.length; row++) {
    let sum = 0;
    for (const end = i + width; i < end; i++) sum += rows[i] * rows[i];
    norms[row] = Math.sqrt(sum);
  }
  return norms;
}

/** Covers what the trace can return: model, shape, fields and tensor bytes; not the provenance, nor the file's layout. */
function digestOf(file: SafetensorsFile, metadata: AttentionMetadata): string {
  const { provenance: _, text: __, quantisation: ___, ...meaning } = metadata;
  const digest = createDigest();
  digest.addString(digestOfJson(meaning));
  const entries = [...file.tensors.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  const total = entries.reduce((sum, entry) => sum + entry.sizeBytes, 0);
  for (const entry of entries) {
    digest.addString(digestOfJson([entry.name, entry.dtype, entry.shape]));
    const sampled = total > fullDigestBytes && entry.sizeBytes > samplesPerTensor * sampleBytes;
    const stride = sampled ? (entry.sizeBytes - sampleBytes) / (samplesPerTensor - 1) : 2 ** 20;
    const length = sampled ? sampleBytes : stride;
    const pieces = sampled ? samplesPerTensor : Math.ceil(entry.sizeBytes / stride);
    for (let piece = 0; piece < pieces; piece++) {
      const start = Math.floor(piece * stride);
      digest.addBytes(file.source.read(entry.offset + start, Math.min(length, entry.sizeBytes - start)));
    }
  }
  return digest.hex();
}
