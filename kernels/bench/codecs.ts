/** Pages coded and decoded: half a gigabyte of raw pages to each codec's form and back. */
import type { Backend } from '../backend.ts';
import { FORMATS, type FormatName, layoutOf, pageStrideOf } from '../formats.ts';
import { callOf, type KernelBench, type Site } from './site.ts';

const HEAD_DIM = 128;
const PAGE_TOKENS = 64;

const siteOf = (kernel: 'encode' | 'decode', name: FormatName, pages: number): Site => {
  const format = FORMATS[name];
  const rawStride = pageStrideOf(FORMATS.bf16, HEAD_DIM, PAGE_TOKENS);
  const codedStride = pageStrideOf(format, HEAD_DIM, PAGE_TOKENS);
  const bytes = pages * (rawStride + layoutOf(format, HEAD_DIM, PAGE_TOKENS).bytes);
  const shape = { pages, headDim: HEAD_DIM, pageTokens: PAGE_TOKENS, format: format.id };
  return {
    label: `${name}, ${pages} pages of ${PAGE_TOKENS} x ${HEAD_DIM}`,
    bytes,
    footprint: 2 * bytes,
    async build(memory) {
      const raw = await memory.fill(pages * rawStride, 'normal-bf16');
      const coded = await memory.fill(pages * codedStride, 'poison');
      const encode = callOf(
        'encode',
        { source: raw, target: coded },
        {
          ...shape,
          sourceFormat: FORMATS.bf16.id,
          sourceStride: rawStride,
          targetStride: codedStride,
          halves: 0,
          from: 0,
          to: 0,
        },
      );
      if (kernel === 'encode') return [encode];
      await memory.run([encode]);
      return [
        callOf(
          'decode',
          { source: coded, target: raw },
          { ...shape, targetFormat: FORMATS.bf16.id, sourceStride: codedStride, targetStride: rawStride },
        ),
      ];
    },
  };
};

const NAMES: readonly FormatName[] = ['int8', 'k8v4', 'int4', 'int4-token', 'int2'];

const benchOf = (kernel: 'encode' | 'decode'): KernelBench => ({
  kernel,
  sites: ({ name }: Backend) => NAMES.map((format) => siteOf(kernel, format, name === 'cuda' ? 16_384 : 512)),
});

export const encodeBench = benchOf('encode');
export const decodeBench = benchOf('decode');
