/**
 * Writes block mass as Parquet, row group by row group, so that memory stays that of one KV head. Same mass, same
 * bytes. Snappy-compressed, which every Parquet reader knows.
 */
import { ByteWriter, type ColumnSource, ParquetWriter, schemaFromColumnData } from 'hyparquet-writer';
import { TraceError } from '../../error.ts';
import { massBlocks } from '../layout.ts';
import { type AttentionMetadata, checkAttentionMetadata } from '../metadata.ts';
import type { HeadMass } from './block-mass.ts';
import { encodeMassMetadata } from './columns.ts';

const rowGroupRows = 131072;

/** Columns of rows [from, to) of a head, in the order of columns.ts. */
const columnsOf = (head: HeadMass, blocks: number, from: number, to: number): ColumnSource[] => {
  const integers = (name: string, value: (row: number) => number): ColumnSource => ({
    name,
    type: 'INT32',
    nullable: false,
    data: Int32Array.from({ length: to - from }, (_, i) => value(from + i)),
  });
  const floats = (name: string, data: Float32Array): ColumnSource => ({
    name,
    type: 'FLOAT',
    nullable: false,
    data: data.subarray(from, to),
  });
  const { mass, detail } = head;
  return [
    integers('step', (row) => Math.floor(row / blocks)),
    integers('layer', () => head.layer),
    integers('kvHead', () => head.kvHead),
    integers('block', (row) => row % blocks),
    floats('mass', mass),
    ...(detail === null ? [] : [floats('top1Share', detail.top1Share), floats('entropy', detail.entropy)]),
  ];
};

/** What was written since the last call: a copy, because the writer's buffer is used again. */
const drain = (writer: ByteWriter): Uint8Array => {
  const bytes = writer.getBytes().slice();
  writer.index = 0;
  return bytes;
};

/**
 * The bytes of the file, in order. `heads` have row-major [steps, blocks] as `metadata` says (fields mass alone); at
 * least one, all with detail or none.
 */
export function* massParquet(heads: Iterable<HeadMass>, metadata: AttentionMetadata): Generator<Uint8Array> {
  checkAttentionMetadata(metadata, 'metadata to write');
  const blocks = massBlocks(metadata);
  if (blocks === null)
    throw new TraceError('invalid-input', 'metadata to write: massBlockTokens: expected a number');
  const rows = metadata.steps * blocks;
  const writer = new ByteWriter();
  let parquet: ParquetWriter | null = null;
  for (const head of heads) {
    const where = `mass of layer ${head.layer}, KV head ${head.kvHead}`;
    if (head.mass.length !== rows)
      throw new TraceError(
        'invalid-input',
        `${where}: expected ${rows} numbers, was given ${head.mass.length}`,
      );
    for (let from = 0; from < rows; from += rowGroupRows) {
      const columnData = columnsOf(head, blocks, from, Math.min(rows, from + rowGroupRows));
      const schema = schemaFromColumnData({ columnData });
      const kvMetadata = [{ key: 'kvtier', value: encodeMassMetadata(metadata) }];
      parquet ??= new ParquetWriter({ writer, schema, kvMetadata, createdBy: 'kvtier' });
      // The schema is fixed by then: the writer refuses types beside it.
      parquet.write({
        columnData: columnData.map(({ name, data }) => ({ name, data })),
        rowGroupSize: rowGroupRows,
      });
      yield drain(writer);
    }
  }
  if (parquet === null)
    throw new TraceError('invalid-input', 'block mass to write: expected at least one KV head');
  parquet.finish();
  yield drain(writer);
}
