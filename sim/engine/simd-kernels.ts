/**
 * The inner loops of attention as WebAssembly SIMD: products of rows with queries, softmax, weighted sums of rows,
 * channel bounds. Rows are float32, padded to whole blocks of 16 channels, in the module's one memory; addresses and
 * strides are bytes. Every sum has one fixed order, so the bits are the same in every engine.
 */
import {
  block,
  type Code,
  type FunctionSpec,
  f32x4,
  f64x2,
  i32,
  type Local,
  loopWhile,
  v128,
} from './simd-assembler.ts';
import { advance, entryFunctions, locals, times } from './simd-entries.ts';

/** Channels that the kernels take at a time; rows are padded with zeros to a multiple. */
export const CHANNEL_BLOCK = 16;
/** Entries that a pass over a vector takes at a time; rows of products come in such groups, too. */
export const LANES = 4;

const BLOCK_BYTES = 4 * CHANNEL_BLOCK;

const multiplyAdd = (sum: Local, a: Code, b: Code): Code => sum.set(f32x4.add(sum.get, f32x4.mul(a, b)));

/** The sums of the lanes of four vectors, as one vector. */
const sumLanes = ([a, b, c, d]: readonly Local[], spare: readonly Local[]): Code => {
  const halves = (x: Local, y: Local): Code =>
    f32x4.add(v128.shuffle(x.get, y.get, [0, 4, 1, 5]), v128.shuffle(x.get, y.get, [2, 6, 3, 7]));
  return block(
    spare[0].set(halves(a, b)),
    spare[1].set(halves(c, d)),
    f32x4.add(
      v128.shuffle(spare[0].get, spare[1].get, [0, 1, 4, 5]),
      v128.shuffle(spare[0].get, spare[1].get, [2, 3, 6, 7]),
    ),
  );
};

/**
 * out[i] = scale · rows[i]·query for i < count (a multiple of 4). Four rows at a time: 16 products on 5 loads; more
 * queries at a time do not make it faster, because the tile of rows stays in the nearest caches.
 */
const dotRows: FunctionSpec = {
  name: 'dot',
  // rows, bytes of a row, rows in all, query, out, scale
  params: ['i32', 'i32', 'i32', 'i32', 'i32', 'f32'],
  result: null,
  body(scope) {
    const [row, rowBytes, count, query, out, scale] = scope.params;
    const [end, stop, at, ...others] = locals(scope, 'i32', 6);
    const rows = [row, ...others];
    const sums = locals(scope, 'v128', 4);
    const [part, ...keys] = locals(scope, 'v128', 5);
    const step = (offset: number): Code =>
      block(
        ...keys.map((key, i) => key.set(v128.load(rows[i].get, offset))),
        part.set(v128.load(at.get, offset)),
        ...sums.map((sum, i) => multiplyAdd(sum, keys[i].get, part.get)),
      );
    return block(
      end.set(i32.add(row.get, i32.mul(count.get, rowBytes.get))),
      loopWhile(
        i32.lessThan(row.get, end.get),
        block(
          ...others.map((next, i) => next.set(i32.add(rows[i].get, rowBytes.get))),
          at.set(query.get),
          ...sums.map((sum) => sum.set(f32x4.of(0))),
          stop.set(rows[1].get),
          loopWhile(
            i32.lessThan(row.get, stop.get),
            block(step(0), step(16), ...[...rows, at].map((pointer) => advance(pointer, i32.of(32)))),
          ),
          v128.store(out.get, f32x4.mul(sumLanes(sums, keys), f32x4.splat(scale.get))),
          row.set(rows[3].get),
          advance(out, i32.of(16)),
        ),
      ),
    );
  },
};

/** sum += the four float32 of `part`, as two pairs of float64 in memory at `address`. */
const widenInto = (address: Code, part: Code, offset: number): Code => {
  const high = v128.shuffle(part, part, [2, 3, 2, 3]);
  const add = (at: number, pair: Code): Code =>
    v128.store(address, f64x2.add(v128.load(address, at), f64x2.promoteLow(pair)), at);
  return block(add(offset, part), add(offset + 16, high));
};

/** sums[q][c] += Σ weights[q][i] · rows[i][c] for `width` weight rows; float32 within a call, float64 across calls. */
const addRows = (width: 1 | 2): FunctionSpec => ({
  name: `add${width}`,
  // rows, bytes of a row, rows in all, weights, bytes between weight rows, sums (float64)
  params: ['i32', 'i32', 'i32', 'i32', 'i32', 'i32'],
  result: null,
  body(scope) {
    const [rows, rowBytes, count, weights, weightBytes, sums] = scope.params;
    const [stop, end, row, weight, other] = locals(scope, 'i32', 5);
    const parts = times(width, () => locals(scope, 'v128', 4));
    const values = locals(scope, 'v128', 4);
    const pointers = width === 1 ? [weight] : [weight, other];
    const splat = scope.local('v128');
    return block(
      stop.set(i32.add(rows.get, rowBytes.get)),
      loopWhile(
        i32.lessThan(rows.get, stop.get),
        block(
          ...parts.flat().map((part) => part.set(f32x4.of(0))),
          row.set(rows.get),
          weight.set(weights.get),
          ...(width === 1 ? [] : [other.set(i32.add(weights.get, weightBytes.get))]),
          end.set(i32.add(weights.get, i32.shl(count.get, i32.of(2)))),
          loopWhile(
            i32.lessThan(weight.get, end.get),
            block(
              ...values.map((value, i) => value.set(v128.load(row.get, 16 * i))),
              ...parts.flatMap((quad, q) => [
                splat.set(v128.loadSplat(pointers[q].get)),
                ...quad.map((part, i) => multiplyAdd(part, values[i].get, splat.get)),
              ]),
              advance(row, rowBytes.get),
              ...pointers.map((pointer) => advance(pointer, i32.of(4))),
            ),
          ),
          ...parts.flatMap((quad, q) => {
            // A row of float64 sums is twice as long as a row of float32.
            const at = q === 0 ? sums.get : i32.add(sums.get, i32.shl(rowBytes.get, i32.of(1)));
            return quad.map((part, i) => widenInto(at, part.get, 32 * i));
          }),
          advance(rows, i32.of(BLOCK_BYTES)),
          advance(sums, i32.of(2 * BLOCK_BYTES)),
        ),
      ),
    );
  },
});

/** Largest and smallest value of each channel over `count` >= 1 rows, as one row of maxima and one of minima at `out`. */
const bounds: FunctionSpec = {
  name: 'bounds',
  params: ['i32', 'i32', 'i32', 'i32'],
  result: null,
  body(scope) {
    const [rows, rowBytes, count, out] = scope.params;
    const [stop, row, end] = locals(scope, 'i32', 3);
    const [most, least, x] = locals(scope, 'v128', 3);
    return block(
      stop.set(i32.add(rows.get, rowBytes.get)),
      end.set(i32.add(rows.get, i32.mul(count.get, rowBytes.get))),
      loopWhile(
        i32.lessThan(rows.get, stop.get),
        block(
          most.set(v128.load(rows.get)),
          least.set(most.get),
          row.set(rows.get),
          loopWhile(
            i32.lessThan(row.get, end.get),
            block(
              x.set(v128.load(row.get)),
              most.set(f32x4.pmax(most.get, x.get)),
              least.set(f32x4.pmin(least.get, x.get)),
              advance(row, rowBytes.get),
            ),
          ),
          v128.store(out.get, most.get),
          v128.store(i32.add(out.get, rowBytes.get), least.get),
          advance(rows, i32.of(16)),
          advance(out, i32.of(16)),
        ),
      ),
    );
  },
};

export interface Kernels {
  dot(rows: number, rowBytes: number, count: number, query: number, out: number, scale: number): void;
  add1(
    rows: number,
    rowBytes: number,
    count: number,
    weights: number,
    weightBytes: number,
    sums: number,
  ): void;
  add2(
    rows: number,
    rowBytes: number,
    count: number,
    weights: number,
    weightBytes: number,
    sums: number,
  ): void;
  largest(at: number, count: number): number;
  exponentials(at: number, count: number, shift: number): number;
  scale(at: number, count: number, factor: number): void;
  bounds(rows: number, rowBytes: number, count: number, out: number): void;
}

export const kernelFunctions: readonly FunctionSpec[] = [
  dotRows,
  addRows(1),
  addRows(2),
  bounds,
  ...entryFunctions,
];
