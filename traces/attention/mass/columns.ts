/**
 * The block-mass table, `kvtier.attention-mass/1`: one row a (step, layer, KV head, block). Its Parquet file carries
 * the trace's metadata, as in a safetensors trace, under the key `kvtier` of the file's key-value metadata.
 */
import * as z from 'zod';
import { TraceError } from '../../error.ts';
import { type AttentionMetadata, checkAttentionMetadata } from '../metadata.ts';

const massFormat = 'kvtier.attention-mass/1';
/** Columns that every table has. */
export const indexColumns = ['step', 'layer', 'kvHead', 'block'] as const;
export const massColumns = [...indexColumns, 'mass'] as const;

const envelopeSchema = z.object({ format: z.literal(massFormat), trace: z.unknown() });

/** The value of the metadata key `kvtier`. */
export const encodeMassMetadata = (metadata: AttentionMetadata): string =>
  JSON.stringify({ format: massFormat, trace: metadata });

/** Reads it back; throws TraceError naming the file, the field and the expectation. */
export const parseMassMetadata = (text: string, file: string): AttentionMetadata => {
  const where = `${file}: key-value metadata "kvtier"`;
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new TraceError('malformed', `${where}: expected valid JSON`, { cause });
  }
  const envelope = envelopeSchema.safeParse(json);
  if (!envelope.success) {
    throw new TraceError('not-supported', `${where}: format: expected "${massFormat}"`, {
      cause: envelope.error,
    });
  }
  const metadata = checkAttentionMetadata(envelope.data.trace, file);
  if (metadata.fields.length !== 1 || metadata.fields[0] !== 'mass') {
    throw new TraceError(
      'contradiction',
      `${file}: metadata.fields: expected mass alone, found ${metadata.fields.join(', ')}`,
    );
  }
  return metadata;
};

/** Metadata of the mass of a trace: same model and lengths, other fields. */
export const massMetadata = (
  trace: AttentionMetadata,
  layers: readonly number[],
  massBlockTokens: number,
): AttentionMetadata => {
  const { quantisation: _, promptWindowTokens: __, ...rest } = trace;
  return { ...rest, recordedLayers: [...layers], fields: ['mass'], massBlockTokens };
};
