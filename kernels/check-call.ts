/**
 * What must hold of a list of calls before any of it runs, on every backend: kernels that exist, all arguments by name,
 * dependencies that point back, buffers that exist and are long enough. Errors name the kernel and the argument.
 */
import { KernelError } from './backend.ts';
import { catalog } from './calls.generated.ts';
import { type Call, type KernelSpec, MAX_AFTER, STREAMS } from './calls.ts';

const kernels: Readonly<Record<string, KernelSpec>> = catalog;

export const invalid = (text: string): KernelError => new KernelError('invalid', text);

/** Throws unless `value` is an integer of `least` or more. */
export const checkCount = (what: string, value: number, least: number): void => {
  if (!(Number.isSafeInteger(value) && value >= least))
    throw invalid(`${what} is ${value}, expected an integer of ${least} or more`);
};

/** A kernel's arguments by name. Throws KernelError 'invalid' for an unknown kernel. */
export const specOf = (kernel: string): KernelSpec => {
  if (!Object.hasOwn(kernels, kernel))
    throw invalid(`no kernel ${kernel}; expected one of ${Object.keys(kernels).join(', ')}`);
  return kernels[kernel];
};

const checkNames = (kernel: string, kind: string, given: object, known: readonly string[]): void => {
  for (const name of Object.keys(given))
    if (!known.includes(name))
      throw invalid(`${kernel}: no ${kind} ${name}; expected ${known.join(', ') || 'none'}`);
};

const checkNumbers = ({ kernel, ints, reals = {} }: Call, spec: KernelSpec): void => {
  checkNames(kernel, 'argument', ints, spec.ints);
  checkNames(kernel, 'argument', reals, spec.reals);
  for (const name of spec.ints) {
    if (!Object.hasOwn(ints, name)) throw invalid(`${kernel}: argument ${name} is missing`);
    if (!Number.isSafeInteger(ints[name]))
      throw invalid(`${kernel}: ${name} is ${ints[name]}, expected an integer`);
  }
  for (const name of spec.reals)
    if (!Object.hasOwn(reals, name)) throw invalid(`${kernel}: argument ${name} is missing`);
};

/** Throws unless bytes [offset, offset + bytes) lie in a buffer of `size` bytes (undefined: there is no such buffer). */
export const checkRange = (
  buffer: number,
  size: number | undefined,
  offset: number,
  bytes: number,
  what = '',
): void => {
  if (size === undefined) throw invalid(`${what}no buffer ${buffer}`);
  const end = offset + bytes;
  if (
    !(Number.isSafeInteger(offset) && Number.isSafeInteger(end) && offset >= 0 && bytes >= 0 && end <= size)
  )
    throw invalid(`${what}bytes ${offset} to ${end} of buffer ${buffer}, which has ${size}`);
};

const checkRefs = ({ kernel, refs, ints }: Call, spec: KernelSpec, sizeOf: SizeOf): void => {
  checkNames(kernel, 'buffer', refs, spec.refs);
  const extents = spec.extents?.(ints) ?? {};
  for (const name of spec.refs) {
    if (!Object.hasOwn(refs, name)) {
      if (spec.optional?.includes(name)) continue;
      throw invalid(`${kernel}: buffer ${name} is missing`);
    }
    const { buffer, offset } = refs[name];
    checkRange(buffer, sizeOf(buffer), offset, extents[name] ?? 0, `${kernel}: ${name} is `);
  }
};

const checkOrder = ({ kernel, stream, after }: Call, at: number): void => {
  if (!STREAMS.includes(stream))
    throw invalid(`${kernel}: stream ${stream}, expected one of ${STREAMS.join(', ')}`);
  if (after.length > MAX_AFTER)
    throw invalid(`${kernel}: after ${after.length} calls, expected ${MAX_AFTER} or fewer`);
  for (const earlier of after)
    if (!(Number.isInteger(earlier) && earlier >= 0 && earlier < at))
      throw invalid(`${kernel}: call ${at} is after call ${earlier}, expected an earlier one`);
};

/** Bytes of a buffer, or undefined when there is none. */
type SizeOf = (buffer: number) => number | undefined;

/** Throws KernelError 'invalid' for the first thing that is wrong with a list of calls. */
export const checkCalls = (calls: readonly Call[], sizeOf: SizeOf): void => {
  calls.forEach((call, at) => {
    const spec = specOf(call.kernel);
    checkOrder(call, at);
    checkNumbers(call, spec);
    checkRefs(call, spec, sizeOf);
  });
};
