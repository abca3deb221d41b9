/**
 * What a software stack states: how kernels are launched, and what its kernels reach of a profile's laws. Stacks are
 * JSON files, as profiles are, and every number says where it comes from.
 */
import * as z from 'zod';
import { error, provenance, quantity, ramp, time } from './quantity.ts';
import { utilisation } from './utilisation-schema.ts';

const STACK_FORMAT = 'kvtier.stack/1';

const kernelLaw = z.strictObject({
  startNs: time,
  ...ramp,
  /**
   * What a row takes beside its bytes, as weights that each row reads again from a cache; of attention over non-uniform
   * codes, what a block takes a multiprocessor beside them. Absent = nothing.
   */
  rowNs: time.optional(),
  /**
   * What query heads of a row take beside their arithmetic, times the root of their number in whole tiles: each waits for
   * others in part. Absent = nothing.
   */
  headNs: time.optional(),
  /** What a further row takes a block of attention after its first; absent = what it takes over plain KV. */
  turnNs: time.optional(),
  rateRatio: quantity,
  flopsRatio: quantity,
  /** The same of what fills tables that the rest looks up in; absent = as the rest. */
  tableRatio: quantity.optional(),
  /** Of the tensor cores' rate; absent = 1. */
  matrixRatio: quantity.optional(),
  /**
   * True where it is kernels in passes: the scores of all query heads that one leaves in the cache are read, and written, by
   * those behind it (shares of a softmax, the largest or near ones of several heads), so that arithmetic adds to the time
   * of bytes. Absent = it hides behind them.
   */
  inPasses: z.strictObject({ value: z.boolean(), ...provenance }).optional(),
  /** Of kernels that rebuild: a tile alone on its multiprocessor over one that takes turns with others; absent = 1. */
  aloneRatio: quantity.optional(),
  errorRatio: error,
});

export const stackSchema = z.strictObject({
  format: z.literal(STACK_FORMAT),
  name: z.string().min(1),
  title: z.string().min(1),
  aliases: z.array(z.string().min(1)).default([]),
  launch: z.enum(['graph', 'stream']),
  /** CPU time a launch; hidden behind the GPU's work where that takes longer. */
  hostNs: time,
  /** True where the CPU launches a step ahead of the GPU: launches hide behind all of its work, not only their own. */
  launchesAhead: z.boolean().optional(),
  /** Around each product of a layer: launches, and passes over its output by element-wise kernels. */
  dense: z.strictObject({ kernelsPerGemm: quantity, passesPerGemm: time }),
  /**
   * `tokenTiles`: tokens that a kernel takes at a time, ascending. A product of more than the largest is that of several
   * kernels, each reading the weights; fewer tokens take as long as the next tile. Absent = any number, in one kernel.
   * `blocks`: how blocks share a tile's product, even stretches of all (tile of `rows` of weights, step of `depth` along
   * them): `perUnit` blocks a multiprocessor, for each of the sizes.
   */
  gemm: z.strictObject({
    rateRatio: quantity,
    tokenTiles: z
      .strictObject({
        sizes: z.array(z.int().positive()).min(1),
        depth: z.int().positive().optional(),
        blocks: z.array(z.strictObject({ rows: z.int().positive(), perUnit: z.int().positive() })).optional(),
        ...provenance,
      })
      .optional(),
  }),
  /**
   * Declared work without a kernel of its own: what a thread takes of its bytes, or of its arithmetic if that makes more of
   * them, in blocks of so many threads, at most `perUnit` of them a multiprocessor. Absent = as bytes ask.
   */
  work: z
    .strictObject({
      bytes: z.int().positive(),
      flops: z.int().positive(),
      threads: z.int().positive(),
      perUnit: z.int().positive(),
      ...provenance,
    })
    .optional(),
  /** Codecs whose groups make a block code twice the tokens of others: `encode-long` is their law. Absent = none. */
  encode: z.strictObject({ long: z.array(z.string()), ...provenance }).optional(),
  /** Tile of the products that rebuild chosen tokens: a block takes one. Absent = work in any pieces. */
  rebuild: z
    .strictObject({ tokens: z.int().positive(), columns: z.int().positive(), ...provenance })
    .optional(),
  /**
   * `rateRatio`: share of the streaming rate that the stack's kernel reaches; where the profile's own kernel reaches less,
   * that. `expandsKv`: KV heads are copied once a query head before attention reads them. `copies`: how often a step copies
   * the cache that it attends to, as one that grows by concatenation does; absent = never. `startNs`: what launching
   * the attention of one layer takes on the GPU's clock, where the stack waits for the GPU first; else it is hidden.
   */
  decodeAttention: z.strictObject({
    rateRatio: quantity,
    expandsKv: z.boolean(),
    copies: quantity.optional(),
    startNs: time.optional(),
    /**
     * Tokens of a tile of raw and of coded KV, where blocks take even stretches of all rows' tokens in whole tiles (Stream-K,
     * arXiv:2301.03598): one that holds the end of a row attends to two, one after the other.
     */
    tileTokens: z
      .strictObject({ raw: z.int().positive(), coded: z.int().positive(), ...provenance })
      .optional(),
    /**
     * Query rows of a tile, to a multiple of which those of a KV head are padded; with `alone`, a single row is not. Absent:
     * 16, as tensor cores take them (m16n8k16).
     */
    tileRows: z.strictObject({ value: z.int().positive(), alone: z.boolean(), ...provenance }).optional(),
    /**
     * How one block joins the parts of a row: its threads take four numbers each of so many `parts` at a time. The first
     * of `blocks` of that dimension that is as large as the heads rules, and of other dimensions the next larger one that
     * `pads`; more query rows of a KV head are further blocks'. Those with `lists` join all parts of a row of just that
     * dimension at once, however many, where there are so many blocks or more to a row; with `listsFew`, only where their
     * parts would not be joined in groups. A block takes `startRatio` times what the law's start is; absent = 1.
     */
    merge: z
      .strictObject({
        parts: z.int().positive(),
        blocks: z
          .array(
            z.strictObject({
              headDim: z.int().positive(),
              queryRows: z.int().positive(),
              threads: z.int().positive(),
              pads: z.boolean().optional(),
              lists: z.int().positive().optional(),
              listsFew: z.boolean().optional(),
              startRatio: quantity.optional(),
            }),
          )
          .min(1),
        ...provenance,
      })
      .optional(),
  }),
  /**
   * Of the profile's rate; and what a kernel for single warps reaches of one that takes matrix instructions of warp groups,
   * which applies nowhere else. Absent = the kernel uses them.
   */
  prefillAttention: z.strictObject({ rateRatio: quantity, warpGroupRatio: quantity.optional() }),
  /** True where the CPU gathers all rows of a fetch before the copy engine starts; else it sends what is gathered. */
  gathersFirst: z.boolean().optional(),
  /** Else: the first and the last piece have `bytes` at least, and one in `most` of all; absent = as little as it likes. */
  gatherPieces: z.strictObject({ most: quantity, bytes: quantity }).optional(),
  /**
   * `clusters`: of 1, 2, … blocks that run at once; stated where the top-k is kvtier's own, whose blocks sim/timing/select-blocks.ts knows.
   */
  select: z.strictObject({
    timeRatio: quantity,
    errorRatio: error,
    clusters: z.strictObject({ values: z.array(z.int().nonnegative()).min(1), ...provenance }).optional(),
  }),
  /**
   * Kernels that score and index: launches for each one that a policy declares (a prototype spreads its arithmetic over
   * operators), and their time over the roofline of their bytes and flops. Absent = 1 and 1.
   */
  index: z
    .strictObject({ launchesPerKernel: quantity.optional(), timeRatio: quantity.optional() })
    .optional(),
  /**
   * What single kernels of this stack were measured to do, by name: `merge`, `append`, `encode`, `decode`, `score`
   * (`score.INDEX`, `encode.CODEC`, `decode.CODEC` for one alone), `attend.CODEC` over coded KV
   * (`attend.CODEC.small` where pages hold no multiple of 32 tokens). Period = start + the larger of bytes at `rateRatio` of the
   * HBM's rate and flops at `flopsRatio` of the plain cores' rate. A kernel that is not named follows the profile.
   * `select.KEYS` (`select.counts`): a top-k that gives each row one block; `rateRatio` is of what one SM reads in the profile's law.
   */
  kernels: z.record(z.string(), kernelLaw).optional(),
  /**
   * The same for kernels on host threads: `attend`, `lsh-match`, `score` (`score.INDEX` for one alone). Time = start + the larger of
   * the bytes at `rateRatio` of what the threads read (scattered rows: of what they gather) and the flops at
   * `flopsRatio` of theirs.
   */
  hostKernels: z.record(z.string(), kernelLaw).optional(),
  /**
   * Shares of a law's speed on grids of sizes, by the name of the law: `attend`, `gemm`, `select`, `rows` (gathered),
   * `batch` (copies in one call), `pageable.h2d` and `.d2h`, `cpu-gather`, `file`, `host.NAME` of host kernels, or a
   * kernel's. Time = the law's over the share, see sim/timing/utilisation.ts.
   */
  utilisation: z.record(z.string(), utilisation).optional(),
});

export type Stack = z.infer<typeof stackSchema>;
