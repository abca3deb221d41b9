/**
 * Which tensors a `kvtier.attention/1` file must hold, and their shapes, from its metadata; and the check that the
 * file says the same. Undeclared, misspelt or missing tensors and contradicting shapes are each one clear line.
 */
import type { TraceField } from '../../sim/trace/attention-trace.ts';
import { TraceError } from '../error.ts';
import type { AttentionMetadata } from './metadata.ts';
import type { SafetensorsFile, TensorEntry } from './safetensors.ts';

/** A dimension that the metadata fixes, by what it is called in messages; null leaves it free. */
type Extent = readonly [meaning: string, size: number | null];

/** The shape of one layer's tensor of a field. Learned scores leave their last axis free. */
export function expectedShape(field: TraceField, metadata: AttentionMetadata): readonly Extent[] {
  const { model, promptTokens, steps, promptWindowTokens } = metadata;
  const kvHeads: Extent = ['kvHeads', model.kvHeads];
  const heads: Extent = ['heads', model.heads];
  const headDim: Extent = ['headDim', model.headDim];
  const tokens: Extent = ['promptTokens + steps', promptTokens + steps];
  switch (field) {
    case 'k':
    case 'kpre':
    case 'v':
      return [kvHeads, tokens, headDim];
    case 'vnorm':
      return [kvHeads, tokens];
    case 'q':
      return [['steps', steps], heads, headDim];
    case 'qprompt':
      return [['promptWindowTokens', promptWindowTokens ?? null], heads, headDim];
    case 'prefillMass':
      return [heads, ['promptTokens', promptTokens]];
    case 'mass':
      return [['steps', steps], kvHeads, ['blocks', massBlocks(metadata)]];
    case 'gate':
    case 'utility':
      return [kvHeads, ['tokens', null]];
    default:
      return field satisfies never;
  }
}

/** Blocks that hold every token, the last one perhaps in part; null when the metadata gives no size. */
export const massBlocks = ({ promptTokens, steps, massBlockTokens }: AttentionMetadata): number | null =>
  massBlockTokens ? Math.ceil((promptTokens + steps) / massBlockTokens) : null;

const scaleSuffix = '.scale';
const offsetSuffix = '.offset';

/** The tensors beside an int8 tensor that turn its codes into values. */
export const isCompanion = (name: string): boolean =>
  name.endsWith(scaleSuffix) || name.endsWith(offsetSuffix);

/** Holds every tensor of the file against the metadata; throws TraceError on the first disagreement. */
export function checkLayout(file: SafetensorsFile, metadata: AttentionMetadata): void {
  const known = new Set<string>();
  for (const field of metadata.fields) {
    for (const layer of metadata.recordedLayers) {
      const name = `${field}.${layer}`;
      const entry = file.tensors.get(name);
      if (!entry) {
        const why = `metadata declares field ${field} and layer ${layer}`;
        throw new TraceError('missing', `${file.name}: tensor "${name}": expected in the file (${why})`);
      }
      known.add(name);
      checkShape(entry, expectedShape(field, metadata), file.name);
      if (checkDtype(entry, file)) known.add(name + scaleSuffix).add(name + offsetSuffix);
    }
  }
  for (const name of file.tensors.keys()) {
    if (known.has(name)) continue;
    const declared = `metadata declares fields ${metadata.fields.join(', ')} and layers ${metadata.recordedLayers.join(', ')}`;
    throw new TraceError('contradiction', `${file.name}: tensor "${name}": not expected: ${declared}`);
  }
}

function checkShape(entry: TensorEntry, expected: readonly Extent[], file: string): void {
  const agrees =
    entry.shape.length === expected.length &&
    expected.every(([, size], axis) => size === null || size === entry.shape[axis]);
  if (agrees) return;
  const meaning = expected.map(([name, size]) => (size === null ? name : `${name} ${size}`)).join(', ');
  throw new TraceError(
    'contradiction',
    `${file}: tensor "${entry.name}": shape: metadata says [${meaning}], found [${entry.shape.join(', ')}]`,
  );
}

/** True when the tensor is int8 and its scale tensor is there and fits. */
function checkDtype(entry: TensorEntry, file: SafetensorsFile): boolean {
  const { name, dtype, shape } = entry;
  if (dtype === 'F16' || dtype === 'BF16' || dtype === 'F32') return false;
  if (dtype !== 'I8' || shape.length !== 3) {
    const expectation = shape.length === 3 ? 'F16, BF16, F32 or I8' : 'F16, BF16 or F32';
    throw new TraceError(
      'not-supported',
      `${file.name}: tensor "${name}": dtype: expected ${expectation}, found ${dtype}`,
    );
  }
  const [outer, rows, channels] = shape;
  const perChannel = `[${outer}, ${channels}] (per channel)`;
  const scale = file.tensors.get(name + scaleSuffix);
  if (!scale) {
    const where = `${file.name}: tensor "${name}${scaleSuffix}"`;
    throw new TraceError('missing', `${where}: expected beside the I8 tensor "${name}"`);
  }
  checkCompanion(scale, file, outer, [rows, channels], `[${outer}, ${rows}] (per row) or ${perChannel}`);
  const offset = file.tensors.get(name + offsetSuffix);
  if (offset) checkCompanion(offset, file, outer, [channels], perChannel);
  return true;
}

function checkCompanion(
  { name, dtype, shape }: TensorEntry,
  file: SafetensorsFile,
  outer: number,
  inner: readonly number[],
  expectation: string,
): void {
  const where = `${file.name}: tensor "${name}"`;
  if (dtype !== 'F16' && dtype !== 'F32' && dtype !== 'BF16') {
    throw new TraceError('not-supported', `${where}: dtype: expected F16, BF16 or F32, found ${dtype}`);
  }
  if (shape.length === 2 && shape[0] === outer && inner.includes(shape[1])) return;
  throw new TraceError(
    'contradiction',
    `${where}: shape: expected ${expectation}, found [${shape.join(', ')}]`,
  );
}
