/**
 * Which share of the tokens older than the window WG-KV's trained gates admit, per layer and KV head: measured on
 * Llama-3.1-8B-Instruct (λ 0.08) for two tasks. Figures from https://github.com/lashhw/WG-KV-figures data/gate_1.csv and
 * gate_2.csv: cache sizes relative to the prompt, here over (prompt - window) / prompt, which heads that admit all reach.
 */
import { layersStoodFor } from '../trace/represent.ts';
import type { World } from './policy.ts';

/** A layer a row, a KV head a column, in thousandths. */
const tables = {
  'code-summarization': [
    '526.280.708.808.386.890.162.163',
    '918.4.1000.1000.0.974.889.344',
    '443.981.69.1000.311.1000.659.79',
    '1000.185.227.213.1000.681.608.381',
    '588.206.512.175.1000.531.877.289',
    '345.716.1000.286.696.816.450.598',
    '561.320.85.451.1000.627.686.758',
    '751.363.335.226.128.715.787.222',
    '867.443.996.300.277.143.471.520',
    '462.538.196.546.339.457.673.691',
    '883.645.372.842.531.215.318.770',
    '221.718.224.599.85.605.246.639',
    '275.217.266.434.26.337.97.305',
    '550.729.504.445.692.383.677.1000',
    '309.393.65.579.852.696.156.698',
    '906.127.435.117.759.351.312.986',
    '824.238.313.38.560.798.484.109',
    '127.441.720.334.374.332.811.460',
    '245.394.275.139.366.586.25.359',
    '578.421.404.745.155.395.45.154',
    '466.110.193.620.226.407.655.67',
    '685.11.396.124.47.444.235.187',
    '241.128.265.499.44.146.108.386',
    '274.305.71.254.43.182.217.5',
    '82.37.10.190.287.290.666.37',
    '263.428.51.360.119.200.55.32',
    '821.220.171.586.210.110.74.254',
    '41.825.36.259.136.545.197.822',
    '270.4.175.368.298.458.348.309',
    '33.41.723.26.318.890.29.200',
    '630.215.474.609.672.348.870.466',
    '117.174.105.259.335.423.117.225',
  ],
  'html-to-tsv': [
    '497.314.624.847.481.829.95.154',
    '955.4.1000.1000.0.987.938.198',
    '260.976.62.1000.195.1000.732.82',
    '1000.149.273.90.1000.476.606.246',
    '605.130.318.137.1000.706.944.543',
    '184.562.1000.121.484.708.246.478',
    '584.139.43.300.1000.367.878.836',
    '737.243.210.187.74.735.881.129',
    '909.299.999.200.148.167.217.236',
    '192.312.116.360.171.166.527.520',
    '934.606.226.895.256.99.165.653',
    '132.543.165.449.103.460.154.599',
    '250.144.179.218.39.323.94.177',
    '361.635.233.214.526.231.509.1000',
    '175.253.58.320.862.540.65.468',
    '879.113.272.79.477.182.200.991',
    '768.132.134.42.327.868.233.110',
    '93.182.528.163.147.137.573.182',
    '95.217.164.68.127.302.13.139',
    '354.158.155.625.77.135.27.84',
    '300.47.101.385.146.198.443.29',
    '512.10.198.90.46.297.140.108',
    '164.250.119.340.33.106.81.194',
    '187.240.50.201.22.90.136.5',
    '60.47.12.215.150.181.525.36',
    '379.321.18.299.73.81.29.22',
    '898.205.109.511.116.49.64.160',
    '23.851.22.251.86.522.111.846',
    '138.5.63.225.234.175.253.224',
    '9.12.519.13.282.879.33.120',
    '331.208.525.540.699.212.743.464',
    '69.153.46.134.228.296.43.118',
  ],
} as const;

export type RateTable = keyof typeof tables | 'uniform';

/** Rates of the table's heads, stretched over the layers and KV heads of another model: row-major [layers, kvHeads]. */
const stretched = (table: RateTable, layers: number, kvHeads: number): Float64Array => {
  const rates = new Float64Array(layers * kvHeads).fill(0.5);
  if (table === 'uniform') return rates;
  const rows = tables[table].map((row) => row.split('.').map((rate) => Number(rate) / 1000));
  for (let layer = 0; layer < layers; layer++) {
    const row = rows[Math.floor((layer * rows.length) / layers)];
    for (let head = 0; head < kvHeads; head++)
      rates[layer * kvHeads + head] = row[Math.floor((head * row.length) / kvHeads)];
  }
  return rates;
};

const meanOf = (rates: Float64Array): number => rates.reduce((a, b) => a + b, 0) / rates.length;

/**
 * The rates with all odds multiplied by one factor, so that their mean is `mean`: as if every gate's bias had moved by the
 * same amount, which is what another λ does first. Order and the range 0..1 are kept.
 */
const withMean = (rates: Float64Array, mean: number): Float64Array => {
  if (mean <= 0 || mean >= 1) return rates.map(() => Math.min(1, Math.max(0, mean)));
  // Heads at 0 or 1 move, too.
  const inner = rates.map((rate) => Math.min(0.9995, Math.max(0.0005, rate)));
  const scaledBy = (factor: number) => inner.map((rate) => (factor * rate) / (1 - rate + factor * rate));
  let low = 2 ** -40;
  let high = 2 ** 40;
  for (let i = 0; i < 100; i++) {
    const middle = Math.sqrt(low * high);
    if (meanOf(scaledBy(middle)) < mean) low = middle;
    else high = middle;
  }
  return scaledBy(high);
};

/**
 * Rates of the heads that are replayed, such that these stand for all: sorted by their own rate, each takes the mean of
 * the next part of the sorted rates of all heads, as large as the number of heads that it stands for. The mean over the
 * model is then kept whatever is replayed.
 */
const shared = (rates: Float64Array, world: World, layers: readonly number[], kvHeads: readonly number[]) => {
  const counts = layersStoodFor(world.layers, layers);
  const heads = layers.flatMap((layer, at) =>
    kvHeads.map((kvHead) => ({
      layer,
      kvHead,
      own: rates[layer * world.kvHeads + kvHead],
      size: (counts[at] * world.kvHeads) / kvHeads.length,
    })),
  );
  heads.sort((a, b) => a.own - b.own);
  const sorted = rates.slice().sort();
  let from = 0;
  for (const { layer, kvHead, size } of heads) {
    rates[layer * world.kvHeads + kvHead] = meanOfPart(sorted, from, from + size);
    from += size;
  }
};

/** Mean of sorted[from, to), whose ends may lie within an element. */
const meanOfPart = (sorted: Float64Array, from: number, to: number): number => {
  let sum = 0;
  for (let i = Math.floor(from); i < Math.min(sorted.length, to); i++)
    sum += sorted[i] * (Math.min(i + 1, to) - Math.max(i, from));
  return sum / (to - from);
};

/** Admission rate by layer and KV head; `mean` over all heads of the model, or as measured where it is not given. */
export const admissionRates = (
  table: RateTable,
  mean: number | undefined,
  world: World,
): ((layer: number, kvHead: number) => number) => {
  const { layers, kvHeads, replayed } = world;
  const measured = stretched(table, layers, kvHeads);
  const rates = mean === undefined ? measured : withMean(measured, mean);
  if (replayed) shared(rates, world, replayed.layers, replayed.kvHeads);
  return (layer, kvHead) => rates[layer * kvHeads + kvHead];
};
