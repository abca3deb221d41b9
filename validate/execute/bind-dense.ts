/** New rows, coding, and the model's matrix products as calls. */
import type { Ref } from '../../kernels/calls.ts';
import { FORMATS, pageStrideOf } from '../../kernels/formats.ts';
import type {
  AppendOperation,
  DecodeOperation,
  DenseOperation,
  EncodeOperation,
} from '../../sim/program/operation.ts';
import type { Binding } from './binding.ts';
import { formatOfForm } from './placement.ts';
import type { Workload } from './workload.ts';

/** Where a layer's new rows go: slots of the raw pool, one a row of attention. */
export interface NewRows {
  readonly pool: Ref;
  readonly slots: readonly number[];
  readonly pageTokens: number;
}

export const bindAppend = (
  binding: Binding,
  { dimensions: { headDim } }: Workload,
  _operation: AppendOperation,
  { pool, slots, pageTokens }: NewRows,
): void => {
  const rows = slots.length;
  binding.add('append', {
    refs: {
      k: binding.layout.place('kv', 2 * rows * headDim),
      v: binding.layout.place('kv', 2 * rows * headDim),
      pool,
      slots: binding.layout.table('tables', slots),
    },
    ints: { rows, headDim, pageTokens, pageStride: pageStrideOf(FORMATS.bf16, headDim, pageTokens) },
  });
  binding.touch('hbm', 4 * rows * headDim);
};

/** Pages in which codecs with a kernel code. */
const CODED_PAGE_TOKENS = 64;

/** Coding by its kernel where whole pages are coded, else work of the same size. */
export const bindCodec = (
  binding: Binding,
  { dimensions: { headDim } }: Workload,
  operation: EncodeOperation | DecodeOperation,
): void => {
  const { codec, inBytes, outBytes, flops, kind } = operation;
  const format = formatOfForm(codec);
  const rawBytes = kind === 'encode' ? inBytes : outBytes;
  const pages = rawBytes / (4 * headDim * CODED_PAGE_TOKENS);
  if (format === null || !Number.isInteger(pages)) {
    binding.standIn(`${kind} ${codec}`);
    binding.work('gpu', {
      hbmBytes: inBytes,
      dramBytes: 0,
      writeBytes: outBytes,
      flops,
      matrixFlops: 0,
      launches: 1,
    });
    return;
  }
  const raw = pageStrideOf(FORMATS.bf16, headDim, CODED_PAGE_TOKENS);
  const coded = pageStrideOf(format, headDim, CODED_PAGE_TOKENS);
  const isEncode = kind === 'encode';
  const [sourceStride, targetStride] = isEncode ? [raw, coded] : [coded, raw];
  binding.add(kind, {
    refs: {
      source: binding.layout.place('kv', pages * sourceStride),
      target: binding.layout.place('outputs', pages * targetStride),
    },
    ints: {
      pages,
      headDim,
      pageTokens: CODED_PAGE_TOKENS,
      ...(isEncode
        ? { sourceFormat: FORMATS.bf16.id, format: format.id }
        : { format: format.id, targetFormat: FORMATS.bf16.id }),
      sourceStride,
      targetStride,
    },
  });
  binding.touch('hbm', pages * (sourceStride + targetStride));
};

export const bindDense = (binding: Binding, { gemms }: DenseOperation): void => {
  for (const { m, n, k } of gemms) {
    binding.add('gemm', {
      refs: {
        x: binding.layout.place('kv', 2 * m * k),
        weights: binding.layout.place('kv', 2 * n * k),
        out: binding.layout.place('outputs', 2 * m * n),
      },
      ints: { m, n, k, outType: 1, units: 0 },
    });
    binding.touch('hbm', 2 * n * k);
  }
};
