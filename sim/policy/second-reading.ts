/**
 * What it costs to let the model read its prompt a second time, chunk by chunk, and to take scores from it: KVzip (arXiv
 * 2505.23416; snu-mllab/KVzip model/wrapper.py, attention/score.py). Used by policies/kvzip.ts.
 */
import type { ExtraPass, Work, World } from './policy.ts';

export interface SecondReading {
  readonly sinkTokens: number;
  /** Prompt tokens that one pass reads, those of the chunk before that it starts with, and those of the request. */
  readonly chunkTokens: number;
  readonly carriedTokens: number;
  readonly instructionTokens: number;
}

/** Reading the prompt again: as many passes as chunks, each of them over the whole cache. */
export const passesOf = (
  { promptTokens }: World,
  { chunkTokens, carriedTokens, instructionTokens }: SecondReading,
): ExtraPass => {
  const passes = Math.ceil(promptTokens / chunkTokens);
  const tokens = Math.round(promptTokens / passes) + carriedTokens + instructionTokens;
  return { tokens, contextTokens: promptTokens + (tokens + 1) / 2, passes, adapterRank: 0 };
};

/** Per prompt token: its chunk's queries against sinks, chunk and themselves; eager rows written and read twice. */
export const scoreWork = (world: World, c: SecondReading): Work => {
  const { tokens, passes } = passesOf(world, c);
  const chunk = world.promptTokens / passes;
  const keys = c.sinkTokens + chunk + tokens;
  const entries = (world.groupSize * tokens * keys) / chunk;
  const rowBytes = (entries * world.kBytesPerToken) / world.headDim;
  return {
    index: 'votes',
    readBytes: { hbm: world.kBytesPerToken * (keys / chunk) + 2 * rowBytes },
    writeBytes: { hbm: 2 * rowBytes },
    flops: 0,
    matrixFlops: 2 * world.headDim * entries,
    kernels: 4,
  };
};
