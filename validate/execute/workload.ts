/**
 * A workload: one decode step of one policy with the rows that it chose and the model's dimensions, as plain data that
 * can be written on one machine and executed on another. What runs is `program`; what the engine times is the same.
 */
import type { HeadChoice, TokenRun } from '../../sim/decode/head-choice.ts';
import type { StepProgram, StepReplay } from '../../sim/decode/step-program.ts';

/** Dimensions of the attention that is executed. */
export interface Dimensions {
  readonly model: string;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Bytes of one KV, activation or weight element; kernels run 16-bit numbers. */
  readonly elementBytes: number;
  /** Layers of the whole model; the program may have fewer. */
  readonly modelLayers: number;
  /** KV heads that were replayed, ascending; each stands for an equal share of the model's. */
  readonly replayedHeads: readonly number[];
}

export interface Workload {
  readonly policy: string;
  /** Prompt tokens in the cache when decoding starts. */
  readonly context: number;
  readonly batch: number;
  readonly dimensions: Dimensions;
  readonly program: StepProgram;
}

/** The KV rows of one layer and sequence as attention sees them: one entry a row of the kernel. */
export interface LayerHeads {
  /** Query heads that share one of the entries. */
  readonly group: number;
  /** Entries that share one KV head's rows in host memory. */
  readonly copies: number;
  readonly heads: readonly HeadChoice[];
}

export const workloadsOf = (
  replay: StepReplay,
  context: number,
  batch: number,
  layers: number,
): readonly Workload[] => {
  const { model } = replay;
  const dimensions: Dimensions = {
    model: model.name,
    heads: model.heads,
    kvHeads: model.kvHeads,
    headDim: model.headDim,
    elementBytes: replay.world.kBytesPerToken / model.headDim,
    modelLayers: model.layers,
    replayedHeads: replay.kvHeads,
  };
  return replay
    .programs(batch, layers)
    .map((program) => ({ policy: program.policy, context, batch, dimensions, program }));
};

/** `attended` of so many tokens, evenly over all of them up to the newest: neighbours are one run. */
const spreadRuns = (tokens: number, attended: number): readonly TokenRun[] => {
  const runOf = (from: number, count: number): TokenRun => {
    return { from, count, slot: from, place: 'hbm', form: 0, queries: -1 };
  };
  if (attended === tokens) return [runOf(0, tokens)];
  const runs: TokenRun[] = [];
  for (let left = attended - 1; left >= 0; left--) {
    const token = tokens - 1 - Math.floor((left * tokens) / attended);
    const last = runs.at(-1);
    if (last !== undefined && last.from + last.count === token) last.count++;
    else runs.push(runOf(token, 1));
  }
  return runs;
};

/** A head of a layer that no policy chooses for; some policies attend to the best of its tokens only. */
const denseHead = (kvHead: number, tokens: number, attended: number, forms: number): HeadChoice => ({
  kvHead,
  length: tokens,
  hbmTokens: Array.from({ length: forms }, (_, form) => (form === 0 ? tokens : 0)),
  dramTokens: new Array(forms).fill(0),
  runs: spreadRuns(tokens, attended),
  isCopied: false,
  estimatedRows: 0,
});

/** What one query head attends to where KV is kept once a query head: its own rows, packed. */
const ofQuery = (choice: HeadChoice, query: number): HeadChoice => {
  const hbmTokens = choice.hbmTokens.map(() => 0);
  const runs: TokenRun[] = [];
  for (const run of choice.runs) {
    if (((run.queries >> query) & 1) === 0) continue;
    const packed = run.place === 'hbm' ? { slot: hbmTokens[run.form] } : {};
    if (run.place === 'hbm') hbmTokens[run.form] += run.count;
    runs.push({ ...run, ...packed, queries: -1 });
  }
  return { ...choice, hbmTokens, runs };
};

/** The rows of one layer; those that were not replayed take a replayed one's choice. */
export const headsOf = ({ dimensions, program }: Workload, layer: number): LayerHeads => {
  const { heads, kvHeads, replayedHeads } = dimensions;
  const group = heads / kvHeads;
  const { replayedLayer, denseTokens } = program.layers[layer];
  const choices = replayedLayer === null ? undefined : program.choices[replayedLayer];
  const attend = program.operations.find((one) => one.kind === 'attend' && one.layer === layer);
  const attended = attend?.kind === 'attend' ? Math.round(attend.contextTokens) : denseTokens;
  const all = Array.from({ length: kvHeads }, (_, kvHead) =>
    choices === undefined
      ? denseHead(kvHead, denseTokens, Math.min(denseTokens, attended), program.forms.length)
      : // Each stands for as many heads as the others: a demand is their plain mean.
        choices[Math.floor((kvHead * replayedHeads.length) / kvHeads)],
  );
  if (!all.some(({ isCopied }) => isCopied)) return { group, copies: 1, heads: all };
  return {
    group: 1,
    copies: group,
    heads: all.flatMap((head) => Array.from({ length: group }, (_, query) => ofQuery(head, query))),
  };
};
