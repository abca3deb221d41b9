/**
 * A small assembler for WebAssembly modules: functions, locals and instructions as expressions that carry their own
 * bytes, so that a kernel reads like arithmetic and ships as source. Covers what the kernels of this folder need of
 * WebAssembly 2.0 (https://webassembly.github.io/spec/core/binary/), fixed-width SIMD included; no relaxed SIMD.
 */
import { SimError } from '../error.ts';

/** Bytes of instructions. An expression leaves one value on the stack, a statement none. */
export type Code = readonly number[];
export type ValueType = 'i32' | 'f32' | 'f64' | 'v128';

export interface Local {
  readonly get: Code;
  set(value: Code): Code;
}

/** Inside a function's body: its parameters in order, and fresh locals (zero at entry). */
export interface Scope {
  readonly params: readonly Local[];
  local(type: ValueType): Local;
}

export interface FunctionSpec {
  readonly name: string;
  readonly params: readonly ValueType[];
  readonly result: ValueType | null;
  body(scope: Scope): Code;
}

const VALUE_TYPES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f32: 0x7d, f64: 0x7c, v128: 0x7b };

const unsigned = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest & 127) | 128);
  bytes.push(rest);
  return bytes;
};

const signed = (value: number): number[] => {
  const bytes: number[] = [];
  let rest = value | 0;
  while (rest < -64 || rest > 63) {
    bytes.push((rest & 127) | 128);
    rest >>= 7;
  }
  bytes.push(rest & 127);
  return bytes;
};

const littleEndian = (write: (view: DataView) => void, sizeBytes: number): number[] => {
  const view = new DataView(new ArrayBuffer(sizeBytes));
  write(view);
  return Array.from({ length: sizeBytes }, (_, i) => view.getUint8(i));
};

const float32Bytes = (value: number): number[] => littleEndian((view) => view.setFloat32(0, value, true), 4);

/** Statements one after another. */
export const block = (...parts: readonly Code[]): Code => parts.flat();

type Binary = (a: Code, b: Code) => Code;
type Unary = (a: Code) => Code;
const binary =
  (...opcode: number[]): Binary =>
  (a, b) => [...a, ...b, ...opcode];
const unary =
  (...opcode: number[]): Unary =>
  (a) => [...a, ...opcode];
const simd = (opcode: number): number[] => [0xfd, ...unsigned(opcode)];

/** Memory operand: log2 of the alignment that is promised, then the constant offset in bytes. */
const memory = (align: number, offsetBytes: number): number[] => [align, ...unsigned(offsetBytes)];

export const i32 = {
  of: (value: number): Code => [0x41, ...signed(value)],
  add: binary(0x6a),
  sub: binary(0x6b),
  mul: binary(0x6c),
  shl: binary(0x74),
  lessThan: binary(0x49),
};

export const f32 = {
  of: (value: number): Code => [0x43, ...float32Bytes(value)],
  max: binary(0x97),
  store: (address: Code, value: Code, offsetBytes = 0): Code => [
    ...address,
    ...value,
    0x38,
    ...memory(2, offsetBytes),
  ],
};

export const f64 = { add: binary(0xa0) };

export const v128 = {
  load: (address: Code, offsetBytes = 0): Code => [...address, ...simd(0), ...memory(4, offsetBytes)],
  /** One float32 in all four lanes. */
  loadSplat: (address: Code, offsetBytes = 0): Code => [...address, ...simd(9), ...memory(2, offsetBytes)],
  store: (address: Code, value: Code, offsetBytes = 0): Code => [
    ...address,
    ...value,
    ...simd(11),
    ...memory(4, offsetBytes),
  ],
  and: binary(...simd(78)),
  /** Lanes 0..3 are of a, 4..7 of b. */
  shuffle: (a: Code, b: Code, lanes: readonly [number, number, number, number]): Code => [
    ...a,
    ...b,
    ...simd(13),
    ...lanes.flatMap((lane) => [4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3]),
  ],
};

export const f32x4 = {
  of: (value: number): Code => [...simd(12), ...Array.from({ length: 4 }, () => float32Bytes(value)).flat()],
  splat: unary(...simd(19)),
  lane: (a: Code, lane: number): Code => [...a, ...simd(31), lane],
  atLeast: binary(...simd(70)),
  add: binary(...simd(228)),
  sub: binary(...simd(229)),
  mul: binary(...simd(230)),
  /** pmin(a, b) = b < a ? b : a, pmax(a, b) = a < b ? b : a: one instruction on every machine, unlike min and max. */
  pmin: binary(...simd(234)),
  pmax: binary(...simd(235)),
};

export const i32x4 = {
  of: (value: number): Code => [
    ...simd(12),
    ...Array.from({ length: 4 }, () => littleEndian((view) => view.setInt32(0, value, true), 4)).flat(),
  ],
  shl: (a: Code, bits: number): Code => [...a, ...i32.of(bits), ...simd(171)],
  add: binary(...simd(174)),
};

export const f64x2 = {
  lane: (a: Code, lane: number): Code => [...a, ...simd(33), lane],
  add: binary(...simd(240)),
  /** The lower two float32 lanes, widened. */
  promoteLow: unary(...simd(95)),
};

const EMPTY = 0x40;

/** Runs `body` while `condition` holds, tested before each pass. */
export const loopWhile = (condition: Code, body: Code): Code => [
  // block { loop { br_if 1 (not condition); body; br 0 } }
  ...[0x02, EMPTY, 0x03, EMPTY],
  ...condition,
  ...[0x45, 0x0d, 1],
  ...body,
  ...[0x0c, 0, 0x0b, 0x0b],
];

const section = (id: number, content: readonly number[]): number[] => [
  id,
  ...unsigned(content.length),
  ...content,
];

const vector = (items: readonly (readonly number[])[]): number[] => [
  ...unsigned(items.length),
  ...items.flat(),
];

const nameBytes = (name: string): number[] => [
  ...unsigned(name.length),
  ...Array.from(name, (char) => char.charCodeAt(0)),
];

const bodyBytes = (spec: FunctionSpec): number[] => {
  const types: ValueType[] = [];
  const at = (index: number): Local => ({
    get: [0x20, ...unsigned(index)],
    set: (value) => [...value, 0x21, ...unsigned(index)],
  });
  const code = spec.body({
    params: spec.params.map((_, index) => at(index)),
    local(type) {
      types.push(type);
      return at(spec.params.length + types.length - 1);
    },
  });
  const body = [...vector(types.map((type) => [1, VALUE_TYPES[type]])), ...code, 0x0b];
  return [...unsigned(body.length), ...body];
};

/** The module's bytes: one memory of `pages` × 64 KiB, exported as "memory", and the functions by their names. */
export const assemble = (pages: number, functions: readonly FunctionSpec[]): Uint8Array<ArrayBuffer> => {
  if (!(Number.isInteger(pages) && pages >= 1 && pages <= 65536))
    throw new SimError('invalid-input', `memory of ${pages} pages: expected 1..65536`);
  const types = functions.map(({ params, result }) => [
    0x60,
    ...vector(params.map((type) => [VALUE_TYPES[type]])),
    ...vector(result === null ? [] : [[VALUE_TYPES[result]]]),
  ]);
  const exports = functions.map(({ name }, index) => [...nameBytes(name), 0, ...unsigned(index)]);
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, vector(types)),
    ...section(3, vector(functions.map((_, index) => unsigned(index)))),
    ...section(5, vector([[1, ...unsigned(pages), ...unsigned(pages)]])),
    ...section(7, vector([[...nameBytes('memory'), 2, 0], ...exports])),
    ...section(10, vector(functions.map(bodyBytes))),
  ]);
};
