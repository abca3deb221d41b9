/** Numbers as people read them: three significant digits, a thin unit, the same text on every machine (no locale). */

/** Three significant digits, trailing zeros kept so that columns line up. */
const significant = (value: number): string => {
  if (value === 0) return '0';
  // Rounded first, or 0.9999 would get the decimals of 0.9 and print as 1.000.
  const rounded = Number(value.toPrecision(3));
  return value.toFixed(Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.abs(rounded))))));
};

const scaled = (value: number, units: readonly string[]): string => {
  let at = 0;
  let scaledValue = value;
  // 999.5 would print as 1000 of the smaller unit.
  while (Math.abs(scaledValue) >= 999.5 && at < units.length - 1) {
    scaledValue /= 1000;
    at++;
  }
  const whole = at === 0 && Number.isInteger(value);
  return `${whole ? String(value) : significant(scaledValue)} ${units[at]}`;
};

/** A duration given in ns: "7.94 ms". */
export const formatNs = (timeNs: number): string =>
  timeNs > 0 && timeNs < 1 ? '< 1 ns' : scaled(timeNs, ['ns', 'µs', 'ms', 's']);

/** Bytes in decimal units, as bandwidths are quoted: "17.2 GB". */
export const formatBytes = (sizeBytes: number): string =>
  scaled(sizeBytes, ['B', 'kB', 'MB', 'GB', 'TB', 'PB']);

/** An integer with grouped thousands: "131,072". */
export const formatCount = (count: number): string => {
  const [whole, fraction] = String(count).split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+(?!\d))/g, ',');
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
};

/** Any plain number to three significant digits, grouped: "126", "2,310", "0.0210". */
export const formatNumber = (value: number): string =>
  Math.abs(value) >= 1000
    ? formatCount(Math.round(value))
    : Number.isInteger(value)
      ? String(value)
      : significant(value);

/** A ratio as a percentage that never rounds up to 100 % or down to 0 %. */
export const formatRatio = (ratio: number): string => {
  const percent = ratio * 100;
  if (percent > 0 && percent < 0.05) return '< 0.1 %';
  if (percent < 100 && percent >= 99.95) return percent >= 99.995 ? '> 99.99 %' : `${percent.toFixed(2)} %`;
  return percent >= 100 || percent === 0 ? `${Math.round(percent)} %` : `${percent.toFixed(1)} %`;
};

/** "4 policies", "1 policy". */
export const plural = (count: number, one: string, many: string): string =>
  `${formatCount(count)} ${count === 1 ? one : many}`;

const resourceLabels: Readonly<Record<string, string>> = {
  hbm: 'HBM bandwidth',
  dram: 'DRAM bandwidth',
  h2d: 'link into the GPU',
  d2h: 'link out of the GPU',
  host: 'host complex',
  nvme: 'NVMe',
  cpu: 'host CPU',
  compute: 'GPU arithmetic',
  launch: 'kernel launches',
  latency: 'latency',
};

/** A resource of the model in words, of a link's its direction (`pcie.h2d`); unknown ones keep their own name. */
export const resourceLabel = (resource: string): string =>
  resourceLabels[resource.slice(resource.indexOf('.') + 1)] ?? resource;

const tierLabels: Readonly<Record<string, string>> = {
  hbm: 'HBM',
  dram: 'DRAM',
  nvme: 'NVMe',
  remote: 'Remote',
  compute: 'Compute',
};

export const tierLabel = (tier: string): string => tierLabels[tier] ?? tier;

/** "dram->hbm" as "DRAM → HBM". */
export const boundaryLabel = (boundary: string): string => boundary.split('->').map(tierLabel).join(' → ');
