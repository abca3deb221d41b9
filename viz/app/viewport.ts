/** The stretch of time that the timeline shows: zoom, pan and their limits; and tick labels that stay distinct. */
import { formatNs } from './format.ts';

export interface TimeSpan {
  readonly fromNs: number;
  readonly toNs: number;
}

/** Nothing in the model is shorter than this, so closer zoom shows nothing new. */
const closestNs = 50;

const clampInto = (span: TimeSpan, whole: TimeSpan): TimeSpan => {
  const lengthNs = Math.min(span.toNs - span.fromNs, whole.toNs - whole.fromNs);
  const fromNs = Math.max(whole.fromNs, Math.min(span.fromNs, whole.toNs - lengthNs));
  return { fromNs, toNs: fromNs + lengthNs };
};

/** Zooms by `factor` (< 1 = closer), keeping `atNs` where it is on the screen unless a limit prevents it. */
export const zoomAt = (span: TimeSpan, atNs: number, factor: number, whole: TimeSpan): TimeSpan => {
  const wholeNs = whole.toNs - whole.fromNs;
  const lengthNs = span.toNs - span.fromNs;
  const nextNs = Math.max(Math.min(closestNs, wholeNs), Math.min(wholeNs, lengthNs * factor));
  const share = lengthNs > 0 ? (atNs - span.fromNs) / lengthNs : 0.5;
  const fromNs = atNs - share * nextNs;
  return clampInto({ fromNs, toNs: fromNs + nextNs }, whole);
};

export const panBy = (span: TimeSpan, deltaNs: number, whole: TimeSpan): TimeSpan =>
  clampInto({ fromNs: span.fromNs + deltaNs, toNs: span.toNs + deltaNs }, whole);

/** Moves as little as needed for `target` to be inside; centres on it when it is longer than the span. */
export const reveal = (span: TimeSpan, target: TimeSpan, whole: TimeSpan): TimeSpan => {
  if (target.fromNs >= span.fromNs && target.toNs <= span.toNs) return span;
  const centreNs = (target.fromNs + target.toNs) / 2;
  return panBy(span, centreNs - (span.fromNs + span.toNs) / 2, whole);
};

/** Fits `target` with a margin of its own length on both sides. */
export const fitTo = (target: TimeSpan, whole: TimeSpan): TimeSpan => {
  const marginNs = Math.max(target.toNs - target.fromNs, closestNs);
  return clampInto({ fromNs: target.fromNs - marginNs, toNs: target.toNs + marginNs }, whole);
};

const units = [
  { perNs: 1e-9, name: 's' },
  { perNs: 1e-6, name: 'ms' },
  { perNs: 1e-3, name: 'µs' },
];

/** Labels of evenly spaced ticks in one unit, with as many decimals as their distance needs. */
export const tickLabel = (ticksNs: readonly number[]): ((timeNs: number) => string) => {
  if (ticksNs.length < 2) return formatNs;
  const stepNs = ticksNs[1] - ticksNs[0];
  const largestNs = ticksNs[ticksNs.length - 1];
  const unit = units.find(({ perNs }) => largestNs * perNs >= 1) ?? { perNs: 1, name: 'ns' };
  const decimals = Math.max(0, Math.ceil(-Math.log10(stepNs * unit.perNs) - 1e-9));
  return (timeNs) => `${(timeNs * unit.perNs).toFixed(decimals)} ${unit.name}`;
};
