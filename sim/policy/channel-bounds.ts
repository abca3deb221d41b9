/**
 * Channel-wise maxima and minima of groups of keys, and the upper bounds of q·k that they give: for each channel the
 * maximum where the query is positive, the minimum where it is negative (Quest, arXiv 2406.10774, §3.3).
 */
import { boundsInto, dotRows } from '../engine/simd.ts';

export class ChannelBounds {
  /** Row-major [groups, 2 · headDim]: maxima, then minima. */
  readonly table: Float32Array;
  private readonly headDim: number;
  private readonly groupTokens: number;
  private split = new Float32Array(0);

  constructor(maxTokens: number, headDim: number, groupTokens: number) {
    this.headDim = headDim;
    this.groupTokens = groupTokens;
    this.table = new Float32Array(Math.ceil(maxTokens / groupTokens) * 2 * headDim);
  }

  /** Takes over the groups that tokens [from, to) lie in, so far as they are written (up to `to`). */
  update(keys: Float32Array, from: number, to: number): void {
    const { headDim, groupTokens, table } = this;
    boundsInto(keys, headDim, groupTokens, from - (from % groupTokens), to, table);
  }

  /**
   * Replaces the bounds of a full group by its centre plus and minus the mean deviation of its keys from it, channel by
   * channel: no bound any more, but less moved by one odd key (ArkVale, infer_state.py).
   */
  shrink(keys: Float32Array, group: number): void {
    const { headDim, groupTokens, table } = this;
    const row = group * 2 * headDim;
    const end = (group + 1) * groupTokens * headDim;
    for (let c = 0; c < headDim; c++) {
      const centre = (table[row + c] + table[row + headDim + c]) / 2;
      let deviation = 0;
      for (let at = group * groupTokens * headDim + c; at < end; at += headDim)
        deviation += Math.abs(centre - keys[at]);
      table[row + c] = centre + deviation / groupTokens;
      table[row + headDim + c] = centre - deviation / groupTokens;
    }
  }

  /** Puts the mean key of a full group in the place of both bounds: its bound of q·k is then q · mean. */
  average(keys: Float32Array, group: number): void {
    const { headDim, groupTokens, table } = this;
    const row = group * 2 * headDim;
    const end = (group + 1) * groupTokens * headDim;
    for (let c = 0; c < headDim; c++) {
      let sum = 0;
      for (let at = group * groupTokens * headDim + c; at < end; at += headDim) sum += keys[at];
      table[row + c] = sum / groupTokens;
      table[row + headDim + c] = sum / groupTokens;
    }
  }

  /** Upper bounds of q·k of `count` queries [count, headDim] over groups 0 .. groups-1: row-major [count, stride]. */
  scoreInto(queries: Float32Array, count: number, groups: number, out: Float32Array, stride: number): void {
    const { headDim, table } = this;
    const channels = 2 * headDim;
    if (this.split.length < count * channels) this.split = new Float32Array(count * channels);
    const { split } = this;
    for (let q = 0; q < count; q++) {
      for (let c = 0; c < headDim; c++) {
        const x = queries[q * headDim + c];
        split[q * channels + c] = x > 0 ? x : 0;
        split[q * channels + headDim + c] = x > 0 ? 0 : x;
      }
    }
    dotRows({
      queries: split,
      queryCount: count,
      rows: table,
      rowCount: groups,
      channels,
      out,
      stride,
      scale: 1,
    });
  }
}
