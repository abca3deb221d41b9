/** Sites of the kernels that code and decode pages, one benchmark (and law) for both ways. */
import { FORMATS, type FormatName, pageStrideOf } from '../../kernels/formats.ts';
import { codedBytesPerToken } from '../../sim/policy/codec.ts';
import { catalog as codecs } from '../../sim/policy/codecs/catalog.generated.ts';
import type { Operation } from '../../sim/program/operation.ts';
import type { Bounds, Site } from './microbench.ts';
import { kernelSite } from './score-sites.ts';

const HEAD_DIM = 128;
const PAGE_TOKENS = 64;

/** Pages of a site: closer together where the blocks of a kernel begin to take turns. */
const PAGES = [1, 16, 32, 48, 64, 80, 96, 112, 128, 192, 256, 512, 1024, 4096, 16_384];

/** Decoding has no step between these and their neighbours: predicted from those, they are missed by 1 %. */
const SMOOTHLY_DECODED = [48, 112, 192, 512];

/** Codecs that have a page format of the same name. */
const NAMES = (Object.keys(FORMATS) as FormatName[]).filter((name) => Object.hasOwn(codecs, name));

const siteOf = (bounds: Bounds, way: 'encode' | 'decode', name: FormatName, pages: number): Site => {
  const codec = codecs[name as keyof typeof codecs];
  const tokens = pages * PAGE_TOKENS;
  const [rawStride, codedStride] = ([FORMATS.bf16, FORMATS[name]] as const).map((format) =>
    pageStrideOf(format, HEAD_DIM, PAGE_TOKENS),
  );
  const rawBytes = tokens * 4 * HEAD_DIM;
  const codedBytes = tokens * codedBytesPerToken(codec, HEAD_DIM, PAGE_TOKENS);
  const [inBytes, outBytes] = way === 'encode' ? [rawBytes, codedBytes] : [codedBytes, rawBytes];
  const operation: Operation = {
    kind: way,
    codec: name,
    inBytes,
    outBytes,
    flops: tokens * codec.decodeFlopsPerToken(HEAD_DIM),
    layer: 0,
    stream: 'compute',
    after: [],
  };
  const [sourceStride, targetStride] = way === 'encode' ? [rawStride, codedStride] : [codedStride, rawStride];
  return kernelSite(bounds, `${name} ${pages} pages`, operation, inBytes + outBytes, (layout) => ({
    kernel: way,
    refs: {
      source: layout.place('kv', pages * sourceStride),
      // Apart from what others read as 16-bit numbers.
      target: layout.place('outputs', pages * targetStride),
    },
    ints: {
      pages,
      headDim: HEAD_DIM,
      pageTokens: PAGE_TOKENS,
      [way === 'encode' ? 'sourceFormat' : 'targetFormat']: FORMATS.bf16.id,
      format: FORMATS[name].id,
      sourceStride,
      targetStride,
      ...(way === 'encode' ? { halves: 0, from: 0, to: 0 } : {}),
    },
  }));
};

/** Sites of one way, all formats, from one page to as many as fit. */
export const codecSites = (bounds: Bounds, way: 'encode' | 'decode'): readonly Site[] =>
  NAMES.flatMap((name) =>
    PAGES.filter(
      (pages) =>
        pages * PAGE_TOKENS * 4 * HEAD_DIM <= bounds.hbmBytes / 8 &&
        !(way === 'decode' && SMOOTHLY_DECODED.includes(pages)),
    ).map((pages) => siteOf(bounds, way, name, pages)),
  );
