/**
 * The passes of a softmax as WebAssembly SIMD: largest entry, exponentials and their sum, scaling; four float32 entries
 * at a time, in one fixed order. Addresses are bytes, counts are multiples of four.
 */
import {
  block,
  type Code,
  type FunctionSpec,
  f32,
  f32x4,
  f64,
  f64x2,
  i32,
  i32x4,
  type Local,
  loopWhile,
  type Scope,
  v128,
} from './simd-assembler.ts';

/** Moves a pointer on. */
export const advance = (pointer: Local, bytes: Code): Code => pointer.set(i32.add(pointer.get, bytes));
export const times = <T>(count: number, make: (index: number) => T): T[] =>
  Array.from({ length: count }, (_, index) => make(index));
export const locals = (scope: Scope, type: 'i32' | 'v128', count: number): Local[] =>
  times(count, () => scope.local(type));

/** Runs `body` on each group of four entries from `at`, `count` entries in all (a multiple of 4). */
const overEntries = (scope: Scope, at: Local, count: Local, body: Code): Code => {
  const end = scope.local('i32');
  return block(
    end.set(i32.add(at.get, i32.shl(count.get, i32.of(2)))),
    loopWhile(i32.lessThan(at.get, end.get), block(body, advance(at, i32.of(16)))),
  );
};

/** The largest of `count` entries. */
const largest: FunctionSpec = {
  name: 'largest',
  params: ['i32', 'i32'],
  result: 'f32',
  body(scope) {
    const [at, count] = scope.params;
    const top = scope.local('v128');
    const lane = (i: number): Code => f32x4.lane(top.get, i);
    return block(
      top.set(f32x4.of(Number.NEGATIVE_INFINITY)),
      overEntries(scope, at, count, top.set(f32x4.pmax(top.get, v128.load(at.get)))),
      f32.max(f32.max(lane(0), lane(1)), f32.max(lane(2), lane(3))),
    );
  },
};

/** ln 2 in two parts: the first has so few bits that its product with a small integer is exact. */
const LN2_HIGH = 0.693359375;
const LN2_LOW = -0.00021219444005469057;
/** Taylor coefficients of e^r from r^6 down: for |r| <= ln 2 / 2 the rest is below 1.3e-7. */
const EXP_TERMS = [1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1, 1];
/** Below e^-87 float32 has no normal numbers: the result is 0. Above e^88 it overflows: the result is e^88. */
const EXP_LEAST = -87;
const EXP_MOST = 88;
/** 1.5 · 2^23: adding it leaves the nearest integer in a float32's last bits; taking it away gives that integer. */
const ROUND = 12582912;

/** entry = e^(entry - shift); returns the sum of what it wrote, in float64. */
const exponentials: FunctionSpec = {
  name: 'exponentials',
  params: ['i32', 'i32', 'f32'],
  result: 'f64',
  body(scope) {
    const [at, count, shift] = scope.params;
    const [x, k, y, mask, low, high, offset] = locals(scope, 'v128', 7);
    // An engine builds a constant anew wherever it stands: they are made once, before the loop.
    const setUp: Code[] = [offset.set(f32x4.splat(shift.get))];
    const constant = (value: Code): Code => {
      const kept = scope.local('v128');
      setUp.push(kept.set(value));
      return kept.get;
    };
    const round = constant(f32x4.of(ROUND));
    const terms = EXP_TERMS.map((term) => constant(f32x4.of(term)));
    const horner = terms.slice(1).reduce((value, term) => f32x4.add(f32x4.mul(value, x.get), term), terms[0]);
    // 2^n is the float32 whose exponent field is n + 127.
    const power = i32x4.shl(i32x4.add(k.get, constant(i32x4.of(127))), 23);
    const remainder = (part: number): Code =>
      x.set(f32x4.sub(x.get, f32x4.mul(y.get, constant(f32x4.of(part)))));
    const body = block(
      x.set(f32x4.sub(v128.load(at.get), offset.get)),
      x.set(f32x4.pmin(constant(f32x4.of(EXP_MOST)), x.get)),
      mask.set(f32x4.atLeast(x.get, constant(f32x4.of(EXP_LEAST)))),
      k.set(f32x4.add(f32x4.mul(x.get, constant(f32x4.of(Math.LOG2E))), round)),
      y.set(f32x4.sub(k.get, round)),
      remainder(LN2_HIGH),
      remainder(LN2_LOW),
      y.set(v128.and(f32x4.mul(horner, power), mask.get)),
      v128.store(at.get, y.get),
      low.set(f64x2.add(low.get, f64x2.promoteLow(y.get))),
      high.set(f64x2.add(high.get, f64x2.promoteLow(v128.shuffle(y.get, y.get, [2, 3, 2, 3])))),
    );
    const loop = overEntries(scope, at, count, body);
    return block(
      ...setUp,
      loop,
      low.set(f64x2.add(low.get, high.get)),
      f64.add(f64x2.lane(low.get, 0), f64x2.lane(low.get, 1)),
    );
  },
};

/** entry = entry · factor. */
const scaleEntries: FunctionSpec = {
  name: 'scale',
  params: ['i32', 'i32', 'f32'],
  result: null,
  body(scope) {
    const [at, count, factor] = scope.params;
    const splat = scope.local('v128');
    const body = v128.store(at.get, f32x4.mul(v128.load(at.get), splat.get));
    return block(splat.set(f32x4.splat(factor.get)), overEntries(scope, at, count, body));
  },
};

export const entryFunctions: readonly FunctionSpec[] = [largest, exponentials, scaleEntries];
