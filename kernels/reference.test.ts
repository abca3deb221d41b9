/** The reference backend: each kernel writes what it says, errors name the argument, half precision is exact. */
import { describe, expect, it } from 'vitest';
import { catalog } from './calls.generated.ts';
import { compareKernel, errorOf } from './differential.ts';
import { bf16Of, f16Of, ofBf16, ofF16 } from './floats.ts';
import { openReference } from './reference.ts';

describe('the reference backend', () => {
  it.each(Object.keys(catalog))('writes every output of %s that is compared', async (kernel) => {
    for (const { failure } of await compareKernel(openReference(), kernel, 3, 42)) expect(failure).toBeNull();
  });

  it('names what is wrong with a call', async () => {
    const backend = openReference();
    const call = { kernel: 'merge', stream: 'compute', after: [], refs: {}, ints: {} } as const;
    await expect(backend.run([call])).rejects.toThrow('merge: argument rows is missing');
    await expect(backend.run([{ ...call, kernel: 'none' }])).rejects.toThrow('no kernel none');
    await expect(backend.read(3, 0, 1)).rejects.toThrow('no buffer 3');
  });
});

describe('errorOf', () => {
  const bytes = (...values: number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);

  it('is the relative L2 error, and NaN where one side was not written', () => {
    expect(errorOf(bytes(3, 4), bytes(3, 4), 'f32')).toBe(0);
    expect(errorOf(bytes(3, 5), bytes(3, 4), 'f32')).toBeCloseTo(0.2);
    expect(errorOf(bytes(3, Number.NaN), bytes(3, 4), 'f32')).toBeNaN();
  });
});

describe('half precision', () => {
  it('survives a round trip for every finite pattern', () => {
    for (let bits = 0; bits < 65_536; bits++) {
      if (Number.isFinite(ofF16(bits))) expect(f16Of(ofF16(bits))).toBe(bits);
      if (Number.isFinite(ofBf16(bits))) expect(bf16Of(ofBf16(bits))).toBe(bits);
    }
  });

  it('rounds to nearest even', () => {
    expect(ofF16(f16Of(1 + 2 ** -11))).toBe(1);
    expect(ofF16(f16Of(1 + 3 * 2 ** -11))).toBe(1 + 2 ** -9);
    expect(ofF16(f16Of(65_520))).toBe(Infinity);
    expect(ofBf16(bf16Of(1 + 2 ** -8))).toBe(1);
  });
});
