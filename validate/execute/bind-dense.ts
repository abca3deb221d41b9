/** New rows, coding, and the model's matrix products as calls. */
import type { Ref } from '../../kernels/calls.ts';
import { FORMATS, type Format, layoutOf, pageStrideOf } from '../../kernels/formats.ts';
import type {
  AppendOperation,
  DecodeOperation,
  DenseOperation,
  EncodeOperation,
} from '../../sim/program/operation.ts';
import type { Binding } from './binding.ts';
import { bindNuqEncode, nuqFormOf } from './nuq-form.ts';
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

const HALVES = ['both', 'keys', 'values'] as const;

/** Bytes that coding `tokens` of a page reads and writes. */
const encodedBytes = (
  format: Format,
  headDim: number,
  tokens: number,
  half: EncodeOperation['half'],
): number => {
  const page = layoutOf(format, headDim, tokens);
  const keys = page.values + page.valueScales - page.keyScales;
  const values = page.bytes - keys;
  return (
    (half === 'values' ? 0 : keys + 2 * headDim * tokens) +
    (half === 'keys' ? 0 : values + 2 * headDim * tokens)
  );
};

/** Codes new tokens of each row: whole pages of them, then what begins a page. */
const bindEncode = (
  binding: Binding,
  { dimensions: { headDim, kvHeads }, batch }: Workload,
  { inBytes, half }: EncodeOperation,
  format: Format,
): void => {
  const { layout } = binding;
  const tokens = Math.max(1, Math.round(inBytes / (half === undefined ? 4 : 2) / headDim));
  const rows = Math.min(tokens, kvHeads * batch);
  const each = Math.round(tokens / rows);
  const [sourceStride, targetStride] = [FORMATS.bf16, format].map((of) =>
    pageStrideOf(of, headDim, CODED_PAGE_TOKENS),
  );
  const encode = (pages: number, to: number): void => {
    if (pages === 0 || to === 0) return;
    binding.add('encode', {
      refs: {
        source: layout.place('kv', pages * sourceStride),
        target: layout.place('outputs', pages * targetStride),
      },
      ints: {
        pages,
        headDim,
        pageTokens: CODED_PAGE_TOKENS,
        sourceFormat: FORMATS.bf16.id,
        format: format.id,
        sourceStride,
        targetStride,
        halves: HALVES.indexOf(half ?? 'both'),
        from: 0,
        to,
      },
    });
    binding.touch('hbm', pages * encodedBytes(format, headDim, to, half));
  };
  encode(rows * Math.floor(each / CODED_PAGE_TOKENS), CODED_PAGE_TOKENS);
  encode(rows, each % CODED_PAGE_TOKENS);
};

/** Coding by its kernel, decoding where it is of whole pages; else work of the same size. */
export const bindCodec = (
  binding: Binding,
  workload: Workload,
  operation: EncodeOperation | DecodeOperation,
): void => {
  const { headDim } = workload.dimensions;
  const { codec, inBytes, outBytes, flops, kind } = operation;
  const format = formatOfForm(codec);
  if (kind === 'encode' && format !== null) {
    bindEncode(binding, workload, operation, format);
    return;
  }
  const stored = workload.program.forms.find(({ name }) => name === codec);
  const nuq = stored === undefined ? null : nuqFormOf(stored, headDim, CODED_PAGE_TOKENS);
  const rows = workload.dimensions.kvHeads * workload.batch;
  const count = inBytes / (4 * headDim) / rows;
  if (kind === 'encode' && nuq !== null && Number.isInteger(count) && operation.half === undefined) {
    bindNuqEncode(binding, nuq, rows, count);
    return;
  }
  const pages = outBytes / (4 * headDim * CODED_PAGE_TOKENS);
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
  const sourceStride = pageStrideOf(format, headDim, CODED_PAGE_TOKENS);
  const targetStride = pageStrideOf(FORMATS.bf16, headDim, CODED_PAGE_TOKENS);
  binding.add(kind, {
    refs: {
      source: binding.layout.place('kv', pages * sourceStride),
      target: binding.layout.place('outputs', pages * targetStride),
    },
    ints: {
      pages,
      headDim,
      pageTokens: CODED_PAGE_TOKENS,
      format: format.id,
      targetFormat: FORMATS.bf16.id,
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
