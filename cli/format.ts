/** Numbers for people: bytes, counts and times with three significant digits and a unit. */

const scaled = (value: number, units: readonly string[], step: number): string => {
  let at = 0;
  let rest = Math.abs(value);
  // 999.5 would round to 1000: it belongs to the next unit.
  while (at < units.length - 1 && rest >= step * 0.9995) {
    rest /= step;
    at++;
  }
  const whole = at === 0 && Number.isInteger(rest);
  const digits = whole || rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${value < 0 ? '-' : ''}${rest.toFixed(digits)}${units[at]}`;
};

/** 17179869184 → `17.2 GB` (decimal units, as bandwidths are given). */
export const formatBytes = (bytes: number): string =>
  scaled(bytes, [' B', ' kB', ' MB', ' GB', ' TB', ' PB'], 1000);

/** 8030261248 → `8.03 G`. */
export const formatCount = (count: number): string => scaled(count, ['', ' k', ' M', ' G', ' T'], 1000);

/** 5600000 → `5.60 ms`. */
export const formatNs = (ns: number): string => scaled(ns, [' ns', ' µs', ' ms', ' s'], 1000);

/** 0.8765 → `87.7 %`. */
export const formatRatio = (ratio: number): string => `${(100 * ratio).toFixed(1)} %`;
