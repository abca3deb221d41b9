/** One direction of the host link in plain numbers: what a profile states of it. */
import type { Profile } from '../hardware/schema.ts';

export interface Direction {
  readonly bytesPerNs: number;
  /** Of the engine that copies, no more than the link's. */
  readonly copyBytesPerNs: number;
  readonly gapNs: number;
  readonly pageableBytesPerNs: number;
  readonly pageableLatencyNs: number;
}

export const directionOf = (
  { engine, dma, pageable, ...link }: Profile['link'],
  way: 'h2d' | 'd2h',
): Direction => {
  const bytesPerNs = link[`${way}BytesPerNs`].value;
  const atMost = (rate: number | undefined): number => Math.min(rate ?? Infinity, bytesPerNs);
  const ownLatency = way === 'd2h' ? pageable.d2hLatencyNs : undefined;
  return {
    bytesPerNs,
    copyBytesPerNs: atMost(engine?.[`${way}BytesPerNs`].value),
    gapNs: dma[`${way}GapNs`].value,
    pageableBytesPerNs: atMost(pageable[`${way}BytesPerNs`].value),
    pageableLatencyNs: (ownLatency ?? pageable.latencyNs).value,
  };
};
