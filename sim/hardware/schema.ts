/**
 * What a hardware profile states: peak and achieved rates apart, per direction, and the laws of its kernels.
 * Every number is a quantity that says where it comes from. Profiles are JSON files so that users copy and edit them.
 * Rates are bytes per ns (1 byte/ns = 1 GB/s); compute is TFLOP/s (1 TFLOP/s = 1000 flops/ns).
 */
import * as z from 'zod';
import { error, type Quantity, quantity, ramp, share, time } from './quantity.ts';

const HARDWARE_FORMAT = 'kvtier.hardware/1';

const tensorRate = z.strictObject({ peakTflops: quantity, achievedTflops: quantity });

const acceleratorSchema = z.strictObject({
  memory: z.strictObject({ capacityBytes: quantity }),
  /** `achieved` = streaming reads; `copy` = reads and writes together; `latency` = a dependent read. */
  hbm: z.strictObject({
    peakBytesPerNs: quantity,
    achievedBytesPerNs: quantity,
    copyBytesPerNs: quantity,
    latencyNs: quantity,
    sectorBytes: quantity,
  }),
  l2: z.strictObject({ capacityBytes: quantity }),
  sms: quantity,
  /** Dense, without sparsity. bf16 stands for fp16 too. A missing type runs at the next wider one's rate. */
  compute: z.strictObject({
    bf16: tensorRate,
    fp32: tensorRate,
    fp8: tensorRate.optional(),
    int8: tensorRate.optional(),
  }),
  /** Period of small kernels, back to back: in a stream, and as nodes of a graph. */
  launch: z.strictObject({ streamNs: time, graphNs: time }),
  /**
   * start + max(flops / (computeEfficiency · peak), bytes / (memoryEfficiency · peak HBM)). Where it is known how blocks
   * share a product: + token · turns for each token of its tile, where turns are the tiles of weights that a block
   * finishes one after the other.
   */
  gemm: z.strictObject({
    startNs: time,
    tokenNs: time.optional(),
    memoryEfficiency: share,
    computeEfficiency: share,
    errorRatio: error,
  }),
  /**
   * start + wave · sequences · kvHeads / SMs + bytes / (rateRatio · achieved HBM). Where blocks share the tokens of all rows:
   * + merge for joining the parts of a row, which one block does (twice where many are joined in groups first), + mergeRound
   * each time that it waits for parts, or mergeListed where it looks up first where they lie; + turn a further row that a
   * block attends to after its first, less the time in which it reads less than others and `turnHiddenRatio` of the time in
   * which it reads (it catches up on blocks that wait for memory), and joining the first row as well, the more so the less
   * of `skew` lies between its end there and that of others. + form a further stored form, whose kernel follows another's.
   */
  decodeAttention: z.strictObject({
    startNs: time,
    ...ramp,
    waveNs: time,
    turnNs: time.optional(),
    turnHiddenRatio: time.optional(),
    skewNs: time.optional(),
    mergeNs: time.optional(),
    mergeRoundNs: time.optional(),
    mergeListedNs: time.optional(),
    formNs: time.optional(),
    rateRatio: share,
    errorRatio: error,
  }),
  /** Causal flops at maxTflops · s / (s + halfTokens). */
  /**
   * `warpGroups`: the rate takes matrix instructions of several warps together (Hopper's wgmma, Blackwell's tcgen05), which
   * kernels written for single warps do not use; absent = it is what such kernels reach.
   */
  prefillAttention: z.strictObject({
    maxTflops: quantity,
    halfTokens: time,
    warpGroups: z.boolean().optional(),
    errorRatio: error,
  }),
  /**
   * Scattered rows within HBM, as a share of the copy rate; `start` where it was measured; `row` = what a row takes at
   * least, however short (memory opens a line of its own for it); `cachedBytesPerNs` = what is gathered where the
   * second-level cache keeps what is written.
   */
  gather: z.strictObject({
    rateRatio: share,
    startNs: time.optional(),
    rowNs: time.optional(),
    cachedBytesPerNs: quantity.optional(),
    errorRatio: error,
  }),
  /** Radix select: start + passes · (pass + scan of the keys by the SMs that a row gets). */
  select: z.strictObject({
    startNs: time,
    passes: quantity,
    passNs: time,
    smBytesPerNs: quantity,
    /** Blocks that share a row meet; and where maxima of groups come first, the scores above them are listed. */
    joinNs: time.optional(),
    listNs: time.optional(),
    /** Of the last cache, what keeps keys from sweep to sweep: each sweep reads those beyond from memory again. */
    keptRatio: quantity.optional(),
    errorRatio: error,
  }),
});

const hostSchema = z.strictObject({
  /** `mixed` = reads and writes in equal parts. */
  dram: z.strictObject({
    capacityBytes: quantity,
    peakBytesPerNs: quantity,
    readBytesPerNs: quantity,
    mixedBytesPerNs: quantity,
    latencyNs: quantity,
  }),
  /** Threads given to gathering and attention on the CPU; a row costs one of them row + bytes / thread rate. */
  cpu: z.strictObject({
    threads: quantity,
    rowNs: time,
    /** Waking the threads, where it was measured. */
    startNs: time.optional(),
    threadBytesPerNs: quantity,
    copyBytesPerNs: quantity,
    /** All threads reading memory while they compute, where it was measured; else the memory's own rate. */
    readBytesPerNs: quantity.optional(),
    tflops: quantity,
    /** Of rows that they gather, where it was measured. */
    errorRatio: error.optional(),
  }),
});

const linkSchema = z.strictObject({
  /** `memory`: both tiers are one memory, as a processor's are, and threads copy. The others differ by their numbers. */
  kind: z.enum(['pcie', 'c2c', 'cxl', 'memory']),
  generation: z.string().min(1),
  /** Of one direction, after line coding. */
  peakBytesPerNs: quantity,
  h2dBytesPerNs: quantity,
  d2hBytesPerNs: quantity,
  /** Both directions at once, summed: the host complex. */
  hostSumBytesPerNs: quantity,
  /** From the first call of a transfer until its first byte moves, calls and gaps apart. */
  latencyNs: time,
  ...ramp,
  /** What copies reach in a direction where that is less than what the link lets through; absent = the link's rates. */
  engine: z.strictObject({ h2dBytesPerNs: quantity, d2hBytesPerNs: quantity }).optional(),
  /**
   * One call a row: `perCall` = CPU time of a call; `gap` = what the engine adds between copies, and `seek` what it adds
   * where a row does not lie behind the one before. `choice` = from the end of what chooses rows on the GPU until the host
   * has seen it and makes the first call.
   */
  dma: z.strictObject({
    perCallNs: time,
    h2dGapNs: time,
    d2hGapNs: time,
    seekNs: time.optional(),
    choiceNs: time.optional(),
  }),
  /** One call for many rows: a set-up, then the rows and their bytes, which hide each other in part. */
  dmaBatch: z.strictObject({ setupNs: time, rowNs: time }),
  /** `latency` of a call; `d2hLatency` of one out of the GPU where that is another. */
  pageable: z.strictObject({
    h2dBytesPerNs: quantity,
    d2hBytesPerNs: quantity,
    latencyNs: time,
    d2hLatencyNs: time.optional(),
  }),
  /**
   * Kernel reads of host memory: `outstanding` rows in flight for a round trip each, at most `bytesPerNs`; rows
   * scattered over more than `reach` bytes miss the address translation, and misses follow one another, `walk` each. A
   * translation covers `granule` bytes, so that few rows visited again and again stay within reach, however far apart.
   */
  uva: z.strictObject({
    bytesPerNs: quantity,
    outstanding: quantity,
    roundTripNs: quantity,
    sectorBytes: quantity,
    reachBytes: quantity,
    granuleBytes: quantity.optional(),
    walkNs: time,
    /** Start of such a kernel, its first round trip included, where it was measured. */
    startNs: time.optional(),
  }),
  errorRatio: error,
});

const nvmeSchema = z.strictObject({
  /** Where it is absent, what lies there is not checked for fit. */
  capacityBytes: quantity.optional(),
  readBytesPerNs: quantity,
  writeBytesPerNs: quantity,
  readsPerS: quantity,
  writesPerS: quantity,
  latencyNs: quantity,
});

/** Errors of one law: on the sites that it was fitted on, and on those left out. */
const residuals = z.strictObject({
  n: z.number().int().nonnegative(),
  mape: z.number(),
  medianApe: z.number(),
  p95Ape: z.number(),
  bias: z.number(),
});

/** What a calibration says of itself; absent in profiles put together from publications. */
const calibrationSchema = z.strictObject({
  machine: z.string(),
  driver: z.string(),
  runtime: z.string(),
  date: z.string(),
  /** What stood in for something else: "nvme is a file on a virtual disk". */
  emulated: z.array(z.string()),
  restarts: z.number().int().positive(),
  /** Sites whose repeats were measured. */
  sites: z.number().int().positive(),
  /** Each restart predicted from the one before; null with a single one. */
  noise: residuals.nullable(),
  /** All sites left out of the fits, each as the last law that it shows predicts it. */
  heldOut: residuals.nullable().optional(),
  laws: z.array(z.strictObject({ law: z.string(), fit: residuals, heldOut: residuals.nullable() })),
  /** 95 % intervals of the fitted numbers, from fits of resampled restarts. */
  intervals: z.record(z.string(), z.tuple([z.number(), z.number()])),
});

/** A rate that was achieved cannot exceed the peak beside it. */
const atMost = (
  context: z.RefinementCtx,
  path: readonly string[],
  value: number,
  peak: number,
  of: string,
): void => {
  if (value <= peak) return;
  context.addIssue({
    code: 'custom',
    path: [...path, 'value'],
    message: `expected at most ${of} (${peak}), got ${value}`,
  });
};

export const profileSchema = z
  .strictObject({
    format: z.literal(HARDWARE_FORMAT),
    name: z.string().min(1),
    title: z.string().min(1),
    aliases: z.array(z.string().min(1)).default([]),
    accelerator: acceleratorSchema,
    host: hostSchema,
    link: linkSchema,
    /** Absent where the machine has no local drive worth using. */
    nvme: nvmeSchema.optional(),
    /** On-demand price of one accelerator and its share of the host. */
    price: z.strictObject({ usdPerHour: quantity }).optional(),
    calibration: calibrationSchema.optional(),
  })
  .superRefine(({ accelerator: { hbm, compute }, host: { dram }, link }, context) => {
    const below = (path: string, value: Quantity, peak: Quantity, of: string): void =>
      atMost(context, path.split('.'), value.value, peak.value, of);
    below(
      'accelerator.hbm.achievedBytesPerNs',
      hbm.achievedBytesPerNs,
      hbm.peakBytesPerNs,
      'hbm.peakBytesPerNs',
    );
    below('accelerator.hbm.copyBytesPerNs', hbm.copyBytesPerNs, hbm.peakBytesPerNs, 'hbm.peakBytesPerNs');
    for (const [type, rate] of Object.entries(compute)) {
      if (rate === undefined) continue;
      below(`accelerator.compute.${type}.achievedTflops`, rate.achievedTflops, rate.peakTflops, 'peakTflops');
    }
    below('host.dram.readBytesPerNs', dram.readBytesPerNs, dram.peakBytesPerNs, 'dram.peakBytesPerNs');
    below('host.dram.mixedBytesPerNs', dram.mixedBytesPerNs, dram.readBytesPerNs, 'dram.readBytesPerNs');
    below('link.h2dBytesPerNs', link.h2dBytesPerNs, link.peakBytesPerNs, 'link.peakBytesPerNs');
    below('link.d2hBytesPerNs', link.d2hBytesPerNs, link.peakBytesPerNs, 'link.peakBytesPerNs');
    below('link.uva.bytesPerNs', link.uva.bytesPerNs, link.h2dBytesPerNs, 'link.h2dBytesPerNs');
  });

export type Profile = z.infer<typeof profileSchema>;
