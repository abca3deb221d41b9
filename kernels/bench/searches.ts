/**
 * Scoring, selection and rebuilding at the sizes of a decode step of 8 KV heads of 128 channels: bytes are those that a
 * kernel can't avoid, each input read once and each output written once.
 */
import type { Backend, Fill } from '../backend.ts';
import { callOf, type KernelBench, type Memory, rotations, type Site } from './site.ts';

const ROWS = 8;
const GROUP = 4;
const DIM = 128;
const HEAD = { rows: ROWS, group: GROUP, headDim: DIM };

/** A buffer: bytes filled so, or words. */
type Content = readonly [bytes: number, fill: Fill] | Uint32Array;

interface Case {
  readonly label: string;
  readonly refs: Readonly<Record<string, Content>>;
  readonly ints: Readonly<Record<string, number>>;
  readonly reals?: Readonly<Record<string, number>>;
  /** Bytes read and written at least, where they are not those of all buffers. */
  readonly bytes?: number;
}

const sizeOf = (content: Content): number =>
  content instanceof Uint32Array ? content.byteLength : content[0];

const siteOf = (backend: Backend, kernel: string, { label, refs, ints, reals = {}, bytes }: Case): Site => {
  const footprint = Object.values(refs).reduce((sum, content) => sum + sizeOf(content), 0);
  const moved = bytes ?? footprint;
  const turns = rotations(backend, moved);
  const place = (memory: Memory, content: Content) =>
    content instanceof Uint32Array ? memory.words(content) : memory.fill(...content);
  return {
    label,
    bytes: moved,
    footprint: footprint * turns,
    async build(memory) {
      const calls = [];
      for (let turn = 0; turn < turns; turn++) {
        const placed: [string, Awaited<ReturnType<Memory['fill']>>][] = [];
        for (const [name, content] of Object.entries(refs)) placed.push([name, await place(memory, content)]);
        calls.push(callOf(kernel, Object.fromEntries(placed), ints, reals));
      }
      return calls;
    },
  };
};

const benchOf = (kernel: string, cases: readonly Case[]): KernelBench => ({
  kernel,
  sites: (backend) => cases.map((one) => siteOf(backend, kernel, one)),
});

const bf16 = (count: number): Content => [2 * count, 'normal-bf16'];
const f32 = (count: number): Content => [4 * count, 'normal-f32'];
const out = (bytes: number): Content => [bytes, 'poison'];
const queries = bf16(ROWS * GROUP * DIM);

/** Numbers from 0 to `most` that look random (multiplicative hashing); millions are needed, so nothing slower. */
const drawn = (count: number, most: number): Uint32Array =>
  Uint32Array.from({ length: count }, (_, i) => (Math.imul(i, 0x9e3779b1) >>> 8) % (most + 1));

const topk = ([rows, of, k]: readonly number[]): Case => ({
  label: `${k} of ${of}, ${rows} rows`,
  refs: { scores: f32(rows * of), ids: out(4 * rows * k) },
  ints: { rows, of, k, scoreStride: of, mapStride: of, idStride: k },
});

const boundsOf = (pages: number): Case => ({
  label: `${pages} pages, group of ${GROUP}`,
  refs: { queries, bounds: bf16(ROWS * pages * 2 * DIM), scores: out(4 * ROWS * GROUP * pages) },
  ints: { ...HEAD, pages, boundStride: pages, scoreStride: pages, reduce: 0 },
});

const build = (pages: number): Case => ({
  label: `${pages} pages of 16`,
  refs: { keys: bf16(ROWS * pages * 16 * DIM), bounds: out(4 * ROWS * pages * DIM) },
  ints: {
    rows: ROWS,
    from: 0,
    to: 16 * pages,
    pageTokens: 16,
    headDim: DIM,
    pageStride: pages,
    pageBytes: 32 * DIM,
    boundStride: pages,
  },
});

const products = (count: number): Case => ({
  label: `${count} vectors, group of ${GROUP}`,
  refs: { queries, vectors: bf16(ROWS * count * DIM), scores: out(4 * ROWS * GROUP * count) },
  ints: {
    ...HEAD,
    count,
    pieceVectors: count,
    pieceStride: 1,
    pieceBytes: 2 * count * DIM,
    scoreStride: count,
    reduce: 0,
  },
  reals: { scale: 1 },
});

const mass = (count: number): Case => ({
  label: `${count} scores, group of ${GROUP}`,
  refs: { scores: f32(ROWS * GROUP * count), mass: out(4 * ROWS * count) },
  ints: { rows: ROWS, group: GROUP, count, scoreStride: count, massStride: count, reduce: 1 },
});

const collide = (tokens: number): Case => ({
  label: `${tokens} keys`,
  refs: {
    ids: [ROWS * tokens * 16, 'bytes'],
    tiers: [ROWS * 4096, 'bytes'],
    collisions: out(2 * ROWS * tokens),
  },
  ints: { rows: ROWS, tokens, subspaces: 16, tokenStride: tokens, scoreStride: tokens },
});

const select = (of: number): Case => ({
  label: `${of / 8} of ${of} keys`,
  // Two scores a word, 0 to 95.
  refs: {
    collisions: drawn((ROWS * of) / 2, 95).map((x) => x | ((95 - x) << 16)),
    ids: out((ROWS * of) / 2),
  },
  ints: { rows: ROWS, of, k: of / 8, scoreStride: of, idStride: of / 8 },
});

const rerank = (tokens: number): Case => ({
  label: `${tokens / 8} of ${tokens} keys`,
  refs: {
    queries,
    signs: f32(DIM),
    candidates: Uint32Array.from({ length: (ROWS * tokens) / 8 }, (_, i) => (8 * i) % tokens),
    codes: [(ROWS * tokens * DIM) / 2, 'bytes'],
    weights: [(ROWS * tokens * DIM) / 4, 'normal-f16'],
    estimates: out((ROWS * tokens) / 2),
  },
  ints: {
    ...HEAD,
    count: tokens / 8,
    idStride: tokens / 8,
    tokenStride: tokens,
    estimateStride: tokens / 8,
    codeStride: DIM / 2,
    weightStride: DIM / 4,
  },
  bytes: (ROWS * tokens * (DIM / 2 + DIM / 4 + 8)) / 8,
});

const codes = (count: number): Case => ({
  label: `${count} keys, 2 x 256 centroids`,
  refs: {
    queries,
    books: f32(ROWS * 256 * DIM),
    codes: [ROWS * count * 2, 'bytes'],
    scores: out(4 * ROWS * GROUP * count),
  },
  ints: { ...HEAD, count, subspaces: 2, centroids: 256, tokenStride: count, scoreStride: count, reduce: 0 },
  reals: { scale: 1 },
});

const gate = (tokens: number): Case => ({
  label: `${tokens} tokens, hidden ${4 * DIM}`,
  refs: {
    before: bf16(tokens * ROWS * DIM),
    after: bf16(tokens * ROWS * DIM),
    norms: bf16(2 * DIM),
    w1: bf16(ROWS * 4 * DIM * 2 * DIM),
    b1: bf16(ROWS * 4 * DIM),
    w2: bf16(ROWS * 4 * DIM),
    b2: bf16(ROWS),
    scores: out(4 * tokens * ROWS),
  },
  ints: { tokens, kvHeads: ROWS, headDim: DIM, hidden: 4 * DIM },
  reals: { epsilon: 1e-6 },
});

const rebuild = ([tokens, latentDim]: readonly number[]): Case => {
  const width = 2 * ROWS * DIM;
  const [stored, references] = [8 * tokens, tokens];
  return {
    label: `${tokens} tokens, ${latentDim} coordinates of 4 bits`,
    refs: {
      chosen: Uint32Array.from({ length: tokens }, (_, i) => 8 * i),
      latents: [(stored * latentDim) / 2, 'bytes'],
      scales: [(stored * latentDim) / 8, 'normal-f16'],
      near: drawn(4 * stored, references - 1),
      references: bf16(references * width),
      up: bf16(width * latentDim),
      out: out(2 * tokens * width),
    },
    ints: { tokens, width, latentDim, neighbours: 4, bits: 4 },
    bytes: tokens * (10 * width + (5 * latentDim) / 8) + 2 * width * latentDim,
  };
};

export const searchBenches: readonly KernelBench[] = [
  benchOf(
    'topk',
    [
      [8, 1024, 64],
      [8, 8192, 128],
      [8, 32_768, 1024],
      [8, 131_072, 2048],
      [32, 131_072, 2048],
      [8, 1_048_576, 2048],
      [1024, 8192, 128],
    ].map(topk),
  ),
  benchOf('bounds-score', [2048, 8192, 32_768].map(boundsOf)),
  benchOf('page-bounds', [8192].map(build)),
  benchOf('dot-score', [2048, 16_384, 131_072].map(products)),
  benchOf('softmax-mass', [8192, 131_072].map(mass)),
  benchOf('paris-collide', [32_768, 131_072, 524_288].map(collide)),
  benchOf('paris-select', [32_768, 131_072, 524_288].map(select)),
  benchOf('paris-rerank', [32_768, 131_072, 524_288].map(rerank)),
  benchOf('pq-score', [32_768, 131_072].map(codes)),
  benchOf('gate', [1, 32].map(gate)),
  benchOf(
    'delta-rebuild',
    [
      [2048, 512],
      [4096, 512],
      [4096, 128],
    ].map(rebuild),
  ),
];
