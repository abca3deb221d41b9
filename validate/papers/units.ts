/** Units that papers print their numbers in, and what one of each is in ns, bytes, or plain numbers. */
export const UNITS = ['s', 'ms', 'µs', 'GB', 'MiB/1000', 'GiB', 'x', '%', 'tok/s', 'GB/step'] as const;
export type Unit = (typeof UNITS)[number];

const SIZES: Readonly<Record<Unit, number>> = {
  s: 1e9,
  ms: 1e6,
  µs: 1e3,
  GB: 1e9,
  'MiB/1000': 1000 * 2 ** 20,
  GiB: 2 ** 30,
  x: 1,
  '%': 0.01,
  'tok/s': 1,
  'GB/step': 1e9,
};

/** A value in ns, bytes or plain numbers as the unit prints it. */
export const inUnit = (value: number, unit: Unit): number => value / SIZES[unit];
