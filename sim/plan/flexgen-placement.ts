/**
 * FlexGen's search for a placement: shares of weights, KV and activations in HBM, in DRAM and on NVMe, by a linear program
 * for each block size (arXiv 2303.06865, section 4.3; FMInference/FlexLLMGen experimental/cost_model.py). Its model of time: a
 * layer of a block takes as long as its slowest stream, loads to the GPU apart, which nothing hides. Policies see no
 * time: what comes out of here are numbers for their parameters.
 */
import { type Constraint, minimise } from './linear-program.ts';

/** One layer's work and bytes; KV and activations of one token of one sequence. */
export interface PlacementDemand {
  readonly layers: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  readonly weightBytes: number;
  readonly kvBytes: number;
  readonly activationBytes: number;
  /** Flops of the products with weights, and of one token's attention to one other. */
  readonly denseFlops: number;
  readonly attentionFlops: number;
  /** HBM for intermediate results of one sequence: while its prompt is read, and in a step. */
  readonly promptWorkBytes: number;
  readonly stepWorkBytes: number;
}

/** Bytes or flops per ns. */
export interface PlacementRates {
  readonly toGpu: number;
  /** Out of the GPU: a prompt's KV, activations. */
  readonly kvFromGpu: number;
  readonly activationsFromGpu: number;
  readonly fromNvme: number;
  /** To NVMe: a prompt's KV, that of a step. */
  readonly kvToNvme: number;
  readonly stepToNvme: number;
  readonly promptFlops: number;
  readonly promptAttentionFlops: number;
  readonly stepFlops: number;
  /** Weights that a step's products read, and KV that attention reads in HBM, and in DRAM by the CPU. */
  readonly weightReads: number;
  readonly gpuAttention: number;
  readonly cpuAttention: number;
}

/** Bytes that may be filled. */
export interface PlacementCapacity {
  readonly hbm: number;
  readonly dram: number;
  readonly nvme: number;
}

/** Shares of one kind of data; they add up to 1. */
export interface Shares {
  readonly hbm: number;
  readonly dram: number;
  readonly nvme: number;
}

export interface Placement {
  /** Sequences that go through a layer together, and how many such batches do before the next layer. */
  readonly batch: number;
  readonly batches: number;
  readonly weights: Shares;
  readonly cache: Shares;
  /** The published runtime keeps none of them on disk. */
  readonly activations: Shares;
  /** Of one layer and the whole block. */
  readonly promptNs: number;
  readonly stepNs: number;
  readonly tokensPerS: number;
}

export interface PlacementRequest {
  readonly demand: PlacementDemand;
  /** By the sequences that go through a layer together. */
  readonly rates: (batch: number) => PlacementRates;
  readonly capacity: PlacementCapacity;
  /** Where KV outside HBM is attended. */
  readonly attendAt: 'cpu' | 'gpu';
  /** Shares that are given; the others are searched. */
  readonly fixed?: Partial<Record<'weights' | 'cache' | 'activations', Shares>>;
}

type Terms = Record<string, number>;

const KINDS = { weights: 'w', cache: 'c', activations: 'a' } as const;
const TIERS = ['hbm', 'dram', 'nvme'] as const;

/** Sums of terms, each times a factor. */
const add = (...parts: readonly (readonly [number, Terms])[]): Terms => {
  const sum: Terms = {};
  for (const [factor, terms] of parts)
    for (const [name, x] of Object.entries(terms)) sum[name] = (sum[name] ?? 0) + factor * x;
  return sum;
};

/** left <= right, where '' stands for 1. */
const atMost = (left: Terms, right: Terms): Constraint => {
  const { '': limit = 0, ...terms } = add([1, left], [-1, right]);
  return { terms, sense: '<=', limit: -limit };
};

/** Streams of one layer and the whole block, ns: while the prompt is read, and in a mean step. */
const streamsOf = (request: PlacementRequest, batch: number, batches: number) => {
  const { demand, attendAt } = request;
  const rates = request.rates(batch);
  const block = batch * batches;
  const { promptTokens: s, generatedTokens: n, weightBytes, denseFlops, attentionFlops } = demand;
  const kv = block * demand.kvBytes;
  const hidden = block * demand.activationBytes;
  const seen = s + n / 2;
  const far = { cdram: 1, cnvme: 1 };
  const weightsIn = { wdram: weightBytes / rates.toGpu, wnvme: weightBytes / rates.toGpu };
  const onCpu = attendAt === 'cpu';
  return {
    prompt: {
      in: add([1, weightsIn], [(s * hidden) / rates.toGpu, { adram: 1 }]),
      out: add([(s * kv) / rates.kvFromGpu, far], [(s * hidden) / rates.activationsFromGpu, { adram: 1 }]),
      read: { wnvme: weightBytes / rates.fromNvme },
      written: { cnvme: (s * kv) / rates.kvToNvme },
      compute: {
        '':
          (block * s * denseFlops) / rates.promptFlops +
          (block * s * s * attentionFlops) / rates.promptAttentionFlops,
      },
    },
    step: {
      in: add(
        [1, weightsIn],
        [hidden / rates.toGpu, { adram: 1 }],
        [onCpu ? 0 : (seen * kv) / rates.toGpu, far],
      ),
      out: { adram: hidden / rates.activationsFromGpu },
      read: { wnvme: weightBytes / rates.fromNvme, cnvme: (seen * kv) / rates.fromNvme },
      written: { cnvme: kv / rates.stepToNvme },
      compute: add(
        [
          Math.max((block * denseFlops) / rates.stepFlops, (batches * weightBytes) / rates.weightReads),
          { '': 1 },
        ],
        [(seen * kv) / rates.gpuAttention, { chbm: 1 }],
        [(seen * kv) / (onCpu ? rates.cpuAttention : rates.gpuAttention), far],
      ),
    },
  };
};

/** What each tier holds at its fullest, while the prompt is read and in the last step. */
const memoryOf = ({ demand, capacity, attendAt }: PlacementRequest, block: number, batch: number) => {
  const { layers, promptTokens: s, generatedTokens: n, weightBytes, kvBytes, activationBytes } = demand;
  const weights = layers * weightBytes;
  const cache = layers * kvBytes * block * (s + n);
  const hidden = activationBytes * block;
  const layerCache = kvBytes * batch * (s + n);
  /** Two layers of weights that are not at home in HBM, and activations of a batch. */
  const passing = (tokens: number): Terms =>
    add([2 * weightBytes, { wdram: 1, wnvme: 1 }], [tokens * activationBytes * batch, { adram: 1 }]);
  const loaded = attendAt === 'gpu' ? { chbm: 1, cdram: 1, cnvme: 1 } : { chbm: 1 };
  const fill = (tier: 'hbm' | 'dram', tokens: number): Terms =>
    add(
      [weights, { [`w${tier}`]: 1 }],
      [tokens * hidden, { [`a${tier}`]: 1 }],
      [tier === 'hbm' || tokens === 1 ? cache : (cache * s) / (s + n), { [`c${tier}`]: 1 }],
    );
  const hbm = { '': capacity.hbm };
  const dram = { '': capacity.dram };
  return [
    atMost(add([1, fill('hbm', s)], [1, passing(s)], [batch * demand.promptWorkBytes, { '': 1 }]), hbm),
    atMost(
      add(
        [1, fill('hbm', 1)],
        [1, passing(1)],
        [2 * layerCache, loaded],
        [batch * demand.stepWorkBytes, { '': 1 }],
      ),
      hbm,
    ),
    atMost(add([1, fill('dram', s)], [0.5, passing(2 * s)]), dram),
    atMost(add([1, fill('dram', 1)], [weightBytes, { wnvme: 1 }], [2 * layerCache, { cnvme: 1 }]), dram),
    atMost({ wnvme: weights, cnvme: cache }, { '': capacity.nvme }),
  ];
};

/** What a share in each tier counts against a placement that is as fast as another. */
const SLOWNESS: Terms = Object.fromEntries(
  Object.values(KINDS).flatMap((kind) => [
    [`${kind}dram`, 1],
    [`${kind}nvme`, 2],
  ]),
);

const sharesOf = (values: Readonly<Record<string, number>>, kind: string): Shares => ({
  hbm: values[`${kind}hbm`] ?? 0,
  dram: values[`${kind}dram`] ?? 0,
  nvme: values[`${kind}nvme`] ?? 0,
});

/** The best shares for one block of `batches` times `batch` sequences; null where it does not fit. */
export const placeBlock = (request: PlacementRequest, batch: number, batches: number): Placement | null => {
  const { layers, generatedTokens: n } = request.demand;
  const block = batch * batches;
  const { prompt, step } = streamsOf(request, batch, batches);
  const whole = Object.values(KINDS).map(
    (kind): Constraint => ({
      terms: { [`${kind}hbm`]: 1, [`${kind}dram`]: 1, [`${kind}nvme`]: 1 },
      sense: '=',
      limit: 1,
    }),
  );
  const given = Object.entries(request.fixed ?? {}).flatMap(([kind, shares]) =>
    TIERS.map(
      (tier): Constraint => ({
        terms: { [`${KINDS[kind as keyof typeof KINDS]}${tier}`]: 1 },
        sense: '=',
        limit: shares[tier],
      }),
    ),
  );
  const time = { prompt: layers, step: layers * (n - 1) };
  const constraints = [
    ...whole,
    ...given,
    { terms: { anvme: 1 }, sense: '=', limit: 0 } as const,
    atMost(add([1, prompt.in], [1, prompt.read]), { prompt: 1 }),
    atMost(add([1, prompt.out], [1, prompt.written]), { prompt: 1 }),
    atMost(prompt.compute, { prompt: 1 }),
    ...[step.out, step.read, step.written, step.compute].map((stream) =>
      atMost(add([1, step.in], [1, stream]), { step: 1 }),
    ),
    ...memoryOf(request, block, batch),
  ];
  const fastest = minimise(time, constraints);
  if (fastest === null) return null;
  // Among placements that are as fast, the one that leans least on slow tiers.
  const asFast: Constraint = { terms: time, sense: '<=', limit: fastest.cost * (1 + 1e-7) };
  const { values } = minimise(SLOWNESS, [...constraints, asFast]) ?? fastest;
  return {
    batch,
    batches,
    weights: sharesOf(values, KINDS.weights),
    cache: sharesOf(values, KINDS.cache),
    activations: sharesOf(values, KINDS.activations),
    promptNs: values.prompt,
    stepNs: values.step,
    tokensPerS: (block * n * 1e9) / fastest.cost,
  };
};

/** More sequences in a block than any memory has room for: an end to the search. */
const MOST_SEQUENCES = 2 ** 16;

/** The best of 1 .. most by a number that rises and then falls; 0 where there is none. */
const peakOf = (most: number, rateOf: (n: number) => number): number => {
  const isBetter = (n: number, than: number): boolean => rateOf(n) > 0 && rateOf(n) >= rateOf(than);
  let low = 1;
  while (2 * low <= most && isBetter(2 * low, low)) low *= 2;
  let [from, to] = [low, Math.min(most, 2 * low)];
  while (from < to) {
    const middle = Math.floor((from + to) / 2);
    if (isBetter(middle + 1, middle)) from = middle + 1;
    else to = middle;
  }
  return from;
};

/**
 * The placement of the highest throughput: batches of 1 to 4 and powers of two, each with as many of them as help most.
 * A block has `mostSequences` at most. Null where not even one sequence fits.
 */
export const bestPlacement = (
  request: PlacementRequest,
  mostSequences = MOST_SEQUENCES,
): Placement | null => {
  let best: Placement | null = null;
  for (let batch = 1; batch <= mostSequences; batch = batch < 4 ? batch + 1 : 2 * batch) {
    const known = new Map<number, Placement | null>();
    const at = (batches: number): Placement | null => {
      let found = known.get(batches);
      if (found === undefined) {
        found = placeBlock(request, batch, batches);
        known.set(batches, found);
      }
      return found;
    };
    const most = Math.floor(mostSequences / batch);
    const found = at(peakOf(most, (batches) => at(batches)?.tokensPerS ?? 0));
    if (found === null) break;
    if (found.tokensPerS > (best?.tokensPerS ?? 0)) best = found;
  }
  return best;
};
