/** `calibrate`: the profile that it starts from, refitting recorded samples, and carrying a profile over. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadProfile, loadStack } from '../sim/hardware/load.ts';
import { recordedContext } from '../test/recorded-context.ts';
import { root } from '../test/scan.ts';
import { baseFor, verb } from './calibrate.ts';

const folder = mkdtempSync(join(tmpdir(), 'calibrate-'));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const defaults = verb.flags.parse({});

describe('the base profile', () => {
  it('is the one that is named like the device', () => {
    expect(baseFor('NVIDIA H100 80GB HBM3')).toBe('h100-sxm');
    expect(baseFor('NVIDIA H200')).toBe('h200-sxm');
    expect(baseFor('NVIDIA H100 PCIe')).toBe('h100-pcie');
    expect(baseFor('NVIDIA L40S')).toBe('l40s');
    expect(baseFor('Intel(R) Xeon(R) Processor')).toBe('h100-sxm');
  });
});

describe('kvtier calibrate', () => {
  it('fits recorded samples into a profile and a stack that load', async () => {
    const { context, documents } = recordedContext();
    const out = join(folder, 'h200.json');
    const from = join(root, 'validate/evidence/h200.microbench.json.gz');
    await verb.run({ ...defaults, from, out, intervals: 0 }, context);
    const profile = loadProfile(JSON.parse(readFileSync(out, 'utf8')) as object, out);
    expect(profile.calibration?.machine).toBe('NVIDIA H200');
    expect(profile.accelerator.hbm.achievedBytesPerNs.status).toBe('measured');
    const stack = loadStack(JSON.parse(readFileSync(join(folder, 'h200.stack.json'), 'utf8')) as object, out);
    expect(Object.keys(stack.kernels ?? {})).toContain('append');
    expect(documents[0]).toMatchObject({ kind: 'calibrate', experiment: { base: 'h200-sxm' } });
  }, 600_000);

  it('names what is missing', async () => {
    const { context } = recordedContext();
    await expect(verb.run({ ...defaults, from: join(folder, 'none') }, context)).rejects.toThrow(
      /--from .*no such file/,
    );
    await expect(verb.run({ ...defaults, transfer: 'h100-sxm' }, context)).rejects.toThrow(
      '--transfer and --to: expected both',
    );
  });
});
