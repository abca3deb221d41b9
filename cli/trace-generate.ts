/** `kvtier trace generate`: a synthetic trace as a file that every other verb, and any other tool, can read. */
import { RESULT_FORMAT } from '../sim/result.ts';
import { sizeOf } from '../traces/attention/safetensors.ts';
import { encodeSafetensors } from '../traces/attention/safetensors-writer.ts';
import { attentionTensors, encodeAttentionMetadata } from '../traces/attention/writer.ts';
import { formatBytes } from './format.ts';
import { checkPlace, writeTrace } from './trace-files.ts';
import { parseLayerList, type TraceFlags } from './trace-flags.ts';
import { nameOf, openTrace, syntheticMetadata, syntheticSource } from './trace-source.ts';
import { UsageError, type VerbContext } from './verb.ts';

const DEFAULT_STEPS = 64;

/** The file's name and the model, both of which must be said. */
const wanted = ({
  files,
  out,
  synthetic,
}: TraceFlags): { readonly out: string; readonly synthetic: string } => {
  if (files.length > 0)
    throw new UsageError(`trace generate: expected no file argument, got ${files[0]}; pass --out FILE`);
  if (synthetic === undefined)
    throw new UsageError('--synthetic: is required with trace generate: the model to imitate');
  if (out === undefined)
    throw new UsageError('--out: is required with trace generate: the .safetensors file to write');
  if (!out.endsWith('.safetensors'))
    throw new UsageError(`--out ${out}: expected a name that ends in .safetensors`);
  return { out, synthetic };
};

export const generate = async (given: TraceFlags, context: VerbContext): Promise<void> => {
  const { out, synthetic } = wanted(given);
  const { seed, steps = DEFAULT_STEPS, dtype = 'F16' } = given;
  const source = syntheticSource(
    { synthetic, task: given.task, context: given.context, seed },
    steps,
    parseLayerList(given.layers),
  );
  const metadata = syntheticMetadata(source);
  const tensors = attentionTensors(source.trace, metadata, dtype);
  const dataBytes = tensors.reduce(
    (sum, tensor) => sum + (sizeOf(tensor.shape, tensor.dtype) ?? Infinity),
    0,
  );
  checkPlace(out, given.force, dataBytes);
  const chunks = encodeSafetensors(tensors, encodeAttentionMetadata(metadata));
  const sizeBytes = writeTrace(out, chunks, context, `writing ${nameOf(out)}`, dataBytes);
  const file = openTrace(out);
  const { shape, model, digest } = file;
  file.close();
  context.printJson({
    format: RESULT_FORMAT,
    kind: 'trace-generate',
    experiment: { trace: { kind: 'synthetic', preset: source.model.name, spec: source.spec }, dtype },
    seed,
    file: nameOf(out),
    sizeBytes,
    trace: {
      name: nameOf(out),
      model,
      shape,
      fields: metadata.fields,
      digest,
      provenance: metadata.provenance,
    },
  });
  const { recordedLayers, promptTokens } = shape;
  context.print(
    `${out}: synthetic attention of ${model}, ${promptTokens} prompt tokens, ${shape.steps} steps, ` +
      `${recordedLayers.length} of ${shape.layers} layers, ${formatBytes(sizeBytes)}\ndigest ${digest.slice(0, 16)}`,
  );
};
