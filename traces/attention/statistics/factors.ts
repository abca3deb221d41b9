/**
 * How channels of keys go together: factors that several channels share, by principal factors of the correlation matrix
 * (Harman, Modern Factor Analysis, 1976, chapter 8), channels weighted by what logits hang on, so that logits vary as
 * measured under the queries that are asked.
 */
import { symmetricEigen } from '../../../sim/policy/eigen.ts';
import { gramOf } from '../../../sim/policy/principal.ts';
import { keyFactors } from '../presets/preset.ts';

/** Weight of every channel beside its share in logits, so that none is left out. */
const leastWeight = 0.1;
/** A channel keeps at least so much variance of its own. */
const leastOwn = 0.02;
/** Times that the channels' own variance is told from the shared. */
const rounds = 4;

/** Loadings [channels, factors] of the rows' unit deviations; each block of rows counts alike. */
export function fitFactors(
  blocks: readonly Float32Array[],
  mean: Float64Array,
  deviation: Float64Array,
  shares: Float64Array,
): Float64Array {
  const width = mean.length;
  const weight = shares.map((share) => Math.sqrt(share + leastWeight));
  const correlation = correlationOf(blocks, mean, deviation);
  const weighted = correlation.map((x, i) => x * weight[Math.floor(i / width)] * weight[i % width]);
  const factors = keyFactors(width);
  const loadings = new Float64Array(width * factors);
  const own = weight.map((w) => 0.2 * w * w);
  for (let round = 0; round < rounds; round++) {
    const shared = weighted.slice();
    for (let c = 0; c < width; c++) shared[c * width + c] -= own[c];
    const { values, vectors } = symmetricEigen(shared, width);
    for (let c = 0; c < width; c++) {
      let explained = 0;
      for (let f = 0; f < factors; f++) {
        const x = Math.sqrt(Math.max(0, values[f])) * vectors[f * width + c];
        loadings[c * factors + f] = x / weight[c];
        explained += x * x;
      }
      own[c] = Math.max(leastOwn * weight[c] * weight[c], weight[c] * weight[c] - explained);
    }
  }
  return bounded(loadings, width);
}

/** Scales rows of loadings that explain more than a channel's variance. */
function bounded(loadings: Float64Array, width: number): Float64Array {
  const factors = loadings.length / width;
  return loadings.map((x, i, all) => {
    const row = all.subarray(i - (i % factors), i - (i % factors) + factors);
    const explained = row.reduce((sum, each) => sum + each * each, 0);
    return x * Math.sqrt(Math.min(1, (1 - leastOwn) / Math.max(1e-12, explained)));
  });
}

function correlationOf(
  blocks: readonly Float32Array[],
  mean: Float64Array,
  deviation: Float64Array,
): Float64Array {
  const width = mean.length;
  const sum = new Float64Array(width * width);
  for (const rows of blocks) {
    const rowCount = rows.length / width;
    const unit = rows.map((x, i) => (x - mean[i % width]) / deviation[i % width]);
    const gram = gramOf({ rows: unit, rowCount, channels: width });
    for (let i = 0; i < sum.length; i++) sum[i] += gram[i] / rowCount / blocks.length;
  }
  return sum;
}
