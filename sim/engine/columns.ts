/**
 * A growable table as a struct of typed arrays: the schema names each column and its element type, rows are appended,
 * capacity doubles. Read the columns through `data` again after an append: growth replaces the arrays.
 */

interface ArrayOf {
  readonly f64: Float64Array;
  readonly f32: Float32Array;
  readonly i32: Int32Array;
  readonly u32: Uint32Array;
  readonly i16: Int16Array;
  readonly u8: Uint8Array;
}

export type ColumnType = keyof ArrayOf;
export type ColumnSchema = Readonly<Record<string, ColumnType>>;
export type ColumnData<S extends ColumnSchema> = { [Name in keyof S]: ArrayOf[S[Name]] };

const allocate = {
  f64: (n: number) => new Float64Array(n),
  f32: (n: number) => new Float32Array(n),
  i32: (n: number) => new Int32Array(n),
  u32: (n: number) => new Uint32Array(n),
  i16: (n: number) => new Int16Array(n),
  u8: (n: number) => new Uint8Array(n),
} as const;

export class Columns<S extends ColumnSchema> {
  readonly schema: S;
  /** The columns with all their capacity; rows 0 .. length-1 are in use, the others hold 0. */
  data: ColumnData<S>;
  length = 0;
  #capacity: number;

  constructor(schema: S, capacity: number) {
    this.schema = schema;
    this.#capacity = Math.max(1, capacity);
    this.data = mapSchema(schema, (type) => allocate[type](this.#capacity));
  }

  /** Appends a row of zeros and returns its position. */
  add(): number {
    if (this.length === this.#capacity) this.reserve(this.length + 1);
    return this.length++;
  }

  /** Makes room for `rows` rows in all. */
  reserve(rows: number): void {
    if (rows <= this.#capacity) return;
    this.#capacity = Math.max(rows, this.#capacity * 2);
    const old = this.data;
    this.data = mapSchema(this.schema, (type, name) => {
      const grown = allocate[type](this.#capacity);
      grown.set(old[name]);
      return grown;
    });
  }

  /** The rows in use, as views of exactly that length. */
  view(): ColumnData<S> {
    return mapSchema(this.schema, (_, name) => this.data[name].subarray(0, this.length));
  }
}

const mapSchema = <S extends ColumnSchema>(
  schema: S,
  column: (type: ColumnType, name: keyof S) => ArrayOf[ColumnType],
): ColumnData<S> => {
  const entries = Object.entries(schema).map(([name, type]) => [name, column(type, name)]);
  return Object.fromEntries(entries) as ColumnData<S>;
};

export const createColumns = <S extends ColumnSchema>(schema: S, capacity = 64): Columns<S> =>
  new Columns(schema, capacity);
