/** Utilisation is carried over: shares of peaks and latencies, never rates. */
import { describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../../sim/hardware/load.ts';
import { transfer } from './carry.ts';

describe('transfer', () => {
  const from = loadProfile('h100-sxm');
  const to = loadProfile('h200-sxm');
  const guess = transfer(from, to, loadStack(), 'h200-guess');

  it('keeps what the datasheet states and takes shares of it from the measured machine', () => {
    const { hbm, sms } = guess.accelerator;
    expect(hbm.peakBytesPerNs.value).toBe(to.accelerator.hbm.peakBytesPerNs.value);
    expect(sms.value).toBe(to.accelerator.sms.value);
    const share = from.accelerator.hbm.achievedBytesPerNs.value / from.accelerator.hbm.peakBytesPerNs.value;
    expect(hbm.achievedBytesPerNs.value / hbm.peakBytesPerNs.value).toBeCloseTo(share, 4);
    expect(hbm.achievedBytesPerNs.status).toBe('assumed');
    expect(guess.accelerator.decodeAttention.startNs.value).toBe(
      from.accelerator.decodeAttention.startNs.value,
    );
  });

  it('is the machine itself when carried over to itself', () => {
    const same = transfer(from, from, loadStack(), 'same');
    expect(same.accelerator.hbm.copyBytesPerNs.value).toBeCloseTo(
      from.accelerator.hbm.copyBytesPerNs.value,
      1,
    );
    expect(same.link.uva.bytesPerNs.value).toBeCloseTo(from.link.uva.bytesPerNs.value, 1);
  });
});
