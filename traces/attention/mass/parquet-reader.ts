/**
 * Reads block mass from a Parquet table (columns.ts) into dense arrays [steps, kvHeads, blocks] a layer. Rows may come
 * in any order and may leave out blocks (mass 0), as exports of the top blocks do; every row is checked.
 */
import {
  type AsyncBuffer,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetScan,
} from 'hyparquet';
import { TraceError } from '../../error.ts';
import type { ByteSource } from '../byte-source.ts';
import { massBlocks } from '../layout.ts';
import { type AttentionMetadata, checkAttentionMetadata } from '../metadata.ts';
import { type indexColumns, massColumns, parseMassMetadata } from './columns.ts';

export interface BlockMassTable {
  readonly metadata: AttentionMetadata;
  /** By layer: row-major [steps, kvHeads, blocks]. */
  readonly mass: ReadonlyMap<number, Float32Array>;
}

export interface MassReaderOptions {
  /** Metadata for a file that carries none; called with what its rows reach to. */
  readonly describe?: (extent: TableExtent) => AttentionMetadata;
  /** Decompressors beyond Snappy. */
  readonly compressors?: Compressors;
}

/** What a table without metadata shows by itself. */
export interface TableExtent {
  readonly layers: readonly number[];
  readonly steps: number;
  readonly kvHeads: number;
  readonly blocks: number;
}

/** Numbers that dense arrays may take: 2 GiB of float32. */
const maxCells = 2 ** 29;
/** What a row of attention may exceed 1 by: float32 sums, or halves on the way. */
const rowSlack = 0.01;

type Columns = Readonly<Record<(typeof massColumns)[number], ArrayLike<unknown>>>;

/** The scan wants whole ArrayBuffers. */
const asyncBuffer = (source: ByteSource): AsyncBuffer => ({
  byteLength: source.sizeBytes,
  slice: (start, end = source.sizeBytes) => source.read(start, end - start).slice().buffer,
});

/** Calls the library; whatever it finds wrong becomes one line. */
const guarded = async <T>(file: string, call: () => Promise<T>): Promise<T> => {
  try {
    return await call();
  } catch (cause) {
    if (cause instanceof TraceError) throw cause;
    const reason = (cause as Error).message.split('\n')[0].replace(/^parquet (?=\w)/, '');
    const codec = /unsupported compression codec: (\w+)/.exec(reason)?.[1];
    if (codec !== undefined) {
      const message = `${file}: compression ${codec}: expected Snappy, gzip, Brotli or none (zstd needs Node 22.15)`;
      throw new TraceError('not-supported', message, { cause });
    }
    throw new TraceError('malformed', `${file}: expected a Parquet table of block mass (${reason})`, {
      cause,
    });
  }
};

const checkColumns = ({ schema }: FileMetaData, file: string): void => {
  const found = schema.slice(1).map(({ name }) => name);
  for (const name of massColumns) {
    if (!found.includes(name))
      throw new TraceError('missing', `${file}: column "${name}": expected among ${found.join(', ')}`);
  }
};

/** The row groups' columns, one group at a time. */
async function* rowGroups(
  source: ByteSource,
  metadata: FileMetaData,
  file: string,
  compressors: Compressors | undefined,
): AsyncGenerator<Columns> {
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const range = { rowStart, rowEnd };
    yield await guarded(file, async () => {
      // A scan a group: each keeps what it has decoded.
      const scan = await parquetScan({
        file: asyncBuffer(source),
        metadata,
        columns: [...massColumns],
        ...range,
        ...(compressors === undefined ? {} : { compressors }),
      });
      const columns = await Promise.all(massColumns.map((column) => scan.readColumn({ column, ...range })));
      return Object.fromEntries(massColumns.map((name, at) => [name, columns[at]])) as unknown as Columns;
    });
    rowStart = rowEnd;
  }
}

/** An index as a number; int64 columns arrive as BigInt. */
const indexAt = (
  columns: Columns,
  name: (typeof indexColumns)[number],
  row: number,
  file: string,
): number => {
  const raw = columns[name][row];
  const value = typeof raw === 'bigint' ? Number(raw) : raw;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new TraceError(
    'malformed',
    `${file}: column "${name}": row ${row}: expected an integer from 0, found ${String(raw)}`,
  );
};

const massAt = (columns: Columns, row: number, file: string): number => {
  const value = columns.mass[row];
  if (typeof value === 'number' && value >= 0 && value <= 1 + rowSlack) return value;
  throw new TraceError(
    'malformed',
    `${file}: column "mass": row ${row}: expected a number from 0 to 1, found ${String(value)}`,
  );
};

const extentOf = async (groups: AsyncGenerator<Columns>, file: string): Promise<TableExtent> => {
  const layers = new Set<number>();
  let [steps, kvHeads, blocks] = [0, 0, 0];
  for await (const columns of groups) {
    for (let row = 0; row < columns.mass.length; row++) {
      layers.add(indexAt(columns, 'layer', row, file));
      steps = Math.max(steps, indexAt(columns, 'step', row, file) + 1);
      kvHeads = Math.max(kvHeads, indexAt(columns, 'kvHead', row, file) + 1);
      blocks = Math.max(blocks, indexAt(columns, 'block', row, file) + 1);
    }
  }
  if (layers.size === 0) throw new TraceError('missing', `${file}: rows: expected at least one`);
  return { layers: [...layers].sort((a, b) => a - b), steps, kvHeads, blocks };
};

/** Dense arrays, all -1 = no row yet. */
const allocate = (metadata: AttentionMetadata, blocks: number, file: string): Map<number, Float32Array> => {
  const { steps, model, recordedLayers } = metadata;
  const cells = steps * model.kvHeads * blocks;
  if (cells * recordedLayers.length > maxCells) {
    const size = `${recordedLayers.length} layers × ${steps} steps × ${model.kvHeads} KV heads × ${blocks} blocks`;
    throw new TraceError(
      'not-supported',
      `${file}: ${size}: expected at most 2^29 cells; use larger blocks or fewer layers`,
    );
  }
  return new Map(recordedLayers.map((layer) => [layer, new Float32Array(cells).fill(-1)]));
};

const fillFrom = (
  columns: Columns,
  { model, steps }: AttentionMetadata,
  blocks: number,
  mass: ReadonlyMap<number, Float32Array>,
  file: string,
): void => {
  const within = (name: (typeof indexColumns)[number], row: number, limit: number): number => {
    const value = indexAt(columns, name, row, file);
    if (value < limit) return value;
    throw new TraceError(
      'contradiction',
      `${file}: column "${name}": row ${row}: metadata says below ${limit}, found ${value}`,
    );
  };
  for (let row = 0; row < columns.mass.length; row++) {
    const layer = indexAt(columns, 'layer', row, file);
    const dense = mass.get(layer);
    if (dense === undefined) {
      const known = [...mass.keys()].join(', ');
      throw new TraceError(
        'contradiction',
        `${file}: column "layer": row ${row}: metadata says ${known}, found ${layer}`,
      );
    }
    const step = within('step', row, steps);
    const kvHead = within('kvHead', row, model.kvHeads);
    const block = within('block', row, blocks);
    const at = (step * model.kvHeads + kvHead) * blocks + block;
    if (dense[at] >= 0) {
      const place = `step ${step}, layer ${layer}, KV head ${kvHead}, block ${block}`;
      throw new TraceError('contradiction', `${file}: row ${row}: ${place}: expected once, found again`);
    }
    dense[at] = massAt(columns, row, file);
  }
};

/** Absent blocks become 0; a step's blocks must not hold more than the whole attention. */
const settle = (
  mass: ReadonlyMap<number, Float32Array>,
  { model }: AttentionMetadata,
  blocks: number,
  file: string,
): void => {
  for (const [layer, dense] of mass) {
    for (let from = 0; from < dense.length; from += blocks) {
      let sum = 0;
      for (let i = from; i < from + blocks; i++) {
        if (dense[i] < 0) dense[i] = 0;
        sum += dense[i];
      }
      if (sum <= 1 + rowSlack) continue;
      const row = from / blocks;
      const place = `step ${Math.floor(row / model.kvHeads)}, layer ${layer}, KV head ${row % model.kvHeads}`;
      throw new TraceError(
        'contradiction',
        `${file}: ${place}: expected mass of at most 1 in all blocks, found ${sum.toFixed(3)}`,
      );
    }
  }
};

/** Reads and checks the whole table; throws TraceError, one line. `file` is what messages call it. */
export const readMassParquet = async (
  source: ByteSource,
  file: string,
  options: MassReaderOptions = {},
): Promise<BlockMassTable> => {
  if (source.sizeBytes < 12)
    throw new TraceError('malformed', `${file}: expected a Parquet table, found ${source.sizeBytes} bytes`);
  const parquet = await guarded(file, () => parquetMetadataAsync(asyncBuffer(source)));
  checkColumns(parquet, file);
  const groups = () => rowGroups(source, parquet, file, options.compressors);
  const text = parquet.key_value_metadata?.find(({ key }) => key === 'kvtier')?.value;
  let metadata: AttentionMetadata;
  if (text !== undefined) metadata = parseMassMetadata(text, file);
  else if (options.describe)
    metadata = checkAttentionMetadata(options.describe(await extentOf(groups(), file)), file);
  else
    throw new TraceError(
      'missing',
      `${file}: key-value metadata "kvtier": expected, to say which model and how long`,
    );
  const blocks = massBlocks(metadata) ?? 0;
  const mass = allocate(metadata, blocks, file);
  for await (const columns of groups()) fillFrom(columns, metadata, blocks, mass, file);
  settle(mass, metadata, blocks, file);
  return { metadata, mass };
};
