/**
 * `kvtier trace convert`: block mass of a trace as a Parquet table, and such a table (from any tool) as a trace. Which
 * way is told by the names' endings.
 */

import { RESULT_FORMAT } from '../sim/result.ts';
import {
  type BlockMassOptions,
  blockMassOf,
  blocksOf,
  defaultBlockTokens,
} from '../traces/attention/mass/block-mass.ts';
import { massMetadata } from '../traces/attention/mass/columns.ts';
import { createMassTrace } from '../traces/attention/mass/mass-trace.ts';
import { readMassFile } from '../traces/attention/mass/node-parquet.ts';
import type { TableExtent } from '../traces/attention/mass/parquet-reader.ts';
import { massParquet } from '../traces/attention/mass/parquet-writer.ts';
import { type AttentionMetadata, attentionFormat } from '../traces/attention/metadata.ts';
import type { AttentionFile } from '../traces/attention/node-file.ts';
import { sizeOf } from '../traces/attention/safetensors.ts';
import { encodeSafetensors } from '../traces/attention/safetensors-writer.ts';
import { attentionTensors, encodeAttentionMetadata } from '../traces/attention/writer.ts';
import { formatBytes, formatCount } from './format.ts';
import { modelOfFlag } from './model-flag.ts';
import { checkPlace, writeTrace } from './trace-files.ts';
import { parseLayerList, type TraceFlags } from './trace-flags.ts';
import { modelMetadata, nameOf, openTrace, windowsOfFile } from './trace-source.ts';
import { UsageError, type VerbContext } from './verb.ts';

const endingOf = (path: string): 'safetensors' | 'parquet' => {
  if (path.endsWith('.safetensors')) return 'safetensors';
  if (path.endsWith('.parquet')) return 'parquet';
  throw new UsageError(`${path}: expected a name that ends in .safetensors or .parquet`);
};

/** The layers asked for, each of which the trace must record. */
const layersOf = (given: TraceFlags, recorded: readonly number[], file: string): readonly number[] => {
  const asked = parseLayerList(given.layers) ?? recorded;
  const missing = asked.find((layer) => !recorded.includes(layer));
  if (missing !== undefined)
    throw new UsageError(`--layers ${missing}: ${file} records layers ${recorded.join(', ')}`);
  return [...new Set(asked)].sort((a, b) => a - b);
};

/** Flags that describe a table, given for a file that describes itself. */
const refuseDescription = ({ model, context }: TraceFlags, file: string): void => {
  const flag = model !== undefined ? '--model' : '--context';
  if (model !== undefined || context !== undefined)
    throw new UsageError(`${flag}: has no meaning here: ${file} says it itself`);
};

interface Converted {
  readonly metadata: AttentionMetadata;
  readonly sizeBytes: number;
  /** Of the trace that was read or written: what other verbs know it by. */
  readonly digest: string;
}

const toParquet = (trace: AttentionFile, out: string, given: TraceFlags, context: VerbContext): Converted => {
  refuseDescription(given, trace.name);
  const layers = layersOf(given, trace.shape.recordedLayers, trace.name);
  const blockTokens = given.blockTokens ?? defaultBlockTokens(trace);
  const options: BlockMassOptions = {
    blockTokens,
    layers,
    detail: given.detail,
    windowOf: windowsOfFile(trace),
  };
  const { steps, kvHeads } = trace.shape;
  const metadata = massMetadata(trace.metadata, layers, blockTokens);
  // Progress by KV heads: the table's size is known only when it is written.
  const progress = context.progress('computing attention', layers.length * kvHeads);
  let done = 0;
  const heads = function* () {
    for (const head of blockMassOf(trace, options)) {
      progress.update(++done);
      yield head;
    }
  };
  checkPlace(out, given.force, 4 * layers.length * steps * kvHeads * blocksOf(trace.shape, blockTokens));
  const quiet = { ...context, progress: () => ({ update: () => {}, end: () => {} }) };
  try {
    const sizeBytes = writeTrace(out, massParquet(heads(), metadata), quiet, '', 1);
    return { metadata, sizeBytes, digest: trace.digest };
  } finally {
    progress.end();
  }
};

/** Metadata of a table that carries none, from the flags and from what its rows reach to. */
const describeTable =
  (given: TraceFlags, file: string) =>
  ({ layers, steps, kvHeads, blocks }: TableExtent): AttentionMetadata => {
    const { model: name, blockTokens, context } = given;
    if (name === undefined || blockTokens === undefined) {
      throw new UsageError(
        `${file}: carries no metadata "kvtier": pass --model and --block-tokens (and --context)`,
      );
    }
    const { shape: model } = modelOfFlag(name, 'model');
    if (kvHeads > model.kvHeads)
      throw new UsageError(
        `${file}: KV head ${kvHeads - 1}: expected ${model.kvHeads} KV heads of ${model.name}`,
      );
    // Without --context: as many tokens as the blocks hold, the last one full.
    const promptTokens = context ?? Math.max(1, blocks * blockTokens - steps);
    const held = Math.ceil((promptTokens + steps) / blockTokens);
    if (blocks > held)
      throw new UsageError(
        `--context ${promptTokens}: with ${steps} steps that is ${held} blocks of ${blockTokens}, ${file} has ${blocks}`,
      );
    return {
      format: attentionFormat,
      model: modelMetadata(model, ''),
      promptTokens,
      steps,
      recordedLayers: [...layers],
      fields: ['mass'],
      massBlockTokens: blockTokens,
      provenance: { tool: 'kvtier trace convert', from: nameOf(file) },
      text: {},
    };
  };

const toSafetensors = async (
  file: string,
  out: string,
  given: TraceFlags,
  context: VerbContext,
): Promise<Converted> => {
  if (given.detail) throw new UsageError('--detail: has no meaning when converting to .safetensors');
  const describe = describeTable(given, file);
  let described = false;
  const table = await readMassFile(file, {
    describe: (extent) => {
      described = true;
      return describe(extent);
    },
  });
  if (!described) refuseDescription(given, file);
  const own = table.metadata.massBlockTokens;
  if (given.blockTokens !== undefined && given.blockTokens !== own)
    throw new UsageError(`--block-tokens ${given.blockTokens}: ${file} has blocks of ${own}`);
  const metadata = {
    ...table.metadata,
    recordedLayers: [...layersOf(given, table.metadata.recordedLayers, file)],
  };
  const trace = createMassTrace(nameOf(file), { metadata, mass: table.mass });
  // Halves would lose small masses; a table is small.
  const tensors = attentionTensors(trace, metadata, 'F32');
  const dataBytes = tensors.reduce(
    (sum, tensor) => sum + (sizeOf(tensor.shape, tensor.dtype) ?? Infinity),
    0,
  );
  checkPlace(out, given.force, dataBytes);
  const chunks = encodeSafetensors(tensors, encodeAttentionMetadata(metadata));
  const sizeBytes = writeTrace(out, chunks, context, `writing ${nameOf(out)}`, dataBytes);
  const written = openTrace(out);
  const { digest } = written;
  written.close();
  return { metadata, sizeBytes, digest };
};

export const convert = async (given: TraceFlags, context: VerbContext): Promise<void> => {
  if (given.files.length !== 2)
    throw new UsageError(`trace convert: expected two files, IN and OUT, got ${given.files.length}`);
  const [from, to] = given.files;
  const [input, output] = [endingOf(from), endingOf(to)];
  if (input === output)
    throw new UsageError(
      `${to}: expected .${input === 'parquet' ? 'safetensors' : 'parquet'}, as ${from} is .${input}`,
    );
  checkPlace(to, given.force, 0);
  const { metadata, sizeBytes, digest } =
    input === 'safetensors'
      ? toParquet(openTrace(from), to, given, context)
      : await toSafetensors(from, to, given, context);
  const { model, promptTokens, steps, recordedLayers, massBlockTokens } = metadata;
  const blocks = Math.ceil((promptTokens + steps) / (massBlockTokens ?? 1));
  const rows = recordedLayers.length * steps * model.kvHeads * blocks;
  context.printJson({
    format: RESULT_FORMAT,
    kind: 'trace-convert',
    experiment: {
      from: nameOf(from),
      to: nameOf(to),
      layers: recordedLayers,
      blockTokens: massBlockTokens,
      detail: given.detail,
    },
    seed: given.seed,
    file: nameOf(to),
    sizeBytes,
    rows,
    blocks,
    trace: {
      model: model.name,
      promptTokens,
      steps,
      kvHeads: model.kvHeads,
      fields: metadata.fields,
      digest,
      provenance: metadata.provenance,
    },
  });
  context.print(
    `${to}: mass of ${formatCount(blocks)} blocks of ${massBlockTokens} tokens, ${recordedLayers.length} of ${model.layers} layers, ` +
      `${steps} steps, ${formatCount(rows)} rows, ${formatBytes(sizeBytes)}`,
  );
};
