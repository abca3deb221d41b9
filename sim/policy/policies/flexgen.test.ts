/** FlexGen's placement: shares held exactly, bytes of both ways to attend, and the error of its compressed form. */
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { runPolicy, sumOf } from '../../../test/policy-run.ts';
import { formsOf } from '../../decode/head-replay.ts';
import { Lowering } from '../../decode/lower.ts';
import { loadModel } from '../../model/models.ts';
import { bytesOf } from '../../program/bytes.ts';
import type { Operation } from '../../program/operation.ts';

const shape = { heads: 4, kvHeads: 2, headDim: 64, promptTokens: 90, steps: 6 };

test('any share of the cache lies in DRAM, at every length', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1, noNaN: true }), (hbmShare) => {
      const { record, world, attended } = runPolicy('flexgen', { hbmShare }, { shape });
      const token = world.kBytesPerToken + world.vBytesPerToken;
      record.residency.forEach(({ hbmBytes, dramBytes }, step) => {
        const stored = shape.promptTokens + step;
        const far = stored - Math.floor(stored * hbmShare);
        expect(dramBytes).toBe(far * token);
        expect(hbmBytes).toBe((stored + 1 - far) * token);
        expect(sumOf(record.choices[step].fetchTokens)).toBe(far);
        expect(attended[step][0][0]).toHaveLength(stored + 1);
      });
    }),
    { seed: 42, numRuns: 10 },
  );
});

test('any shares of the cache lie in HBM and on NVMe, at every length; the rest in DRAM', () => {
  const share = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(share, share, fc.constantFrom('cpu', 'gpu'), (hbmShare, ofRest, attendAt) => {
      const nvmeShare = (1 - hbmShare) * ofRest;
      const { record, world } = runPolicy('flexgen', { hbmShare, nvmeShare, attendAt }, { shape });
      const token = world.kBytesPerToken + world.vBytesPerToken;
      record.residency.forEach(({ hbmBytes, dramBytes, nvmeBytes }, step) => {
        const stored = shape.promptTokens + step;
        const far = stored - Math.floor(stored * hbmShare);
        const onDrive = nvmeBytes / token;
        expect(Math.abs(onDrive - far * ofRest)).toBeLessThanOrEqual(1);
        expect(dramBytes).toBe((far - onDrive) * token);
        expect(hbmBytes).toBe((stored + 1 - far) * token);
        const choice = record.choices[step];
        expect([sumOf(choice.fetchTokens), sumOf(choice.loadTokens)]).toEqual([far, onDrive]);
      });
      expect(sumOf(record.prefill.storeTokens) * token).toBe(
        record.residency[0].nvmeBytes - sumOf(record.appends[0].storeTokens) * token,
      );
    }),
    { seed: 42, numRuns: 12 },
  );
  // Exactly halves and thirds, and nothing in DRAM where they add up to 1.
  for (const [hbmShare, nvmeShare] of [
    [0.7, 0.3],
    [0.1, 0.9],
    [0.35, 0.65],
  ])
    for (const { dramBytes } of runPolicy('flexgen', { hbmShare, nvmeShare }, { shape }).record.residency)
      expect(dramBytes).toBe(0);
});

const llama = { heads: 32, kvHeads: 8, headDim: 128, promptTokens: 1000, steps: 1 };

/** A layer of Llama-3.1-8B at 1000 tokens, replayed, and what lowers it. */
const layerOf = (config: Record<string, unknown>, batch = 1) => {
  const { policy, record, world } = runPolicy('flexgen', config, { shape: llama });
  const lowering = new Lowering({
    model: loadModel('llama-3.1-8b'),
    policy,
    forms: formsOf(policy, world),
    batch,
    promptTokens: 1000,
    elementBytes: 2,
    layerDramBytes: 0,
    dense: false,
  });
  const step = () => lowering.step(0, [{ append: record.appends[0], choice: record.choices[0] }]).operations;
  return { policy, prefill: () => lowering.prefill([{ demand: record.prefill }]).operations, step };
};

describe('a step of a layer of Llama-3.1-8B at 1000 tokens', () => {
  const crossed = (config: Record<string, unknown>) => {
    const operations = layerOf(config).step();
    const bytes = (kind: 'fetch' | 'spill' | 'attend', tier: 'dram' | 'hbm'): number =>
      sumOf(operations.filter((o) => o.kind === kind).map((o) => bytesOf(o).read[tier] ?? 0));
    return {
      in: bytes('fetch', 'dram'),
      out: bytes('spill', 'hbm'),
      attendedInDram: bytes('attend', 'dram'),
    };
  };

  test('attended by the CPU: queries out, outputs and log-sum-exps in, no KV', () => {
    const hidden = 32 * 128 * 2;
    expect(crossed({})).toEqual({ in: hidden + 32 * 4, out: hidden, attendedInDram: 1000 * 8 * 512 });
    expect(crossed({ hbmShare: 0.25 }).attendedInDram).toBe(750 * 8 * 512);
  });

  test('attended by the GPU: all of it in, raw or at 144 bytes a token and KV head', () => {
    const gpu = { attendAt: 'gpu' };
    expect(crossed(gpu)).toEqual({ in: 1000 * 8 * 512, out: 0, attendedInDram: 0 });
    expect(crossed({ ...gpu, compress: true }).in).toBe(1000 * 8 * 144);
  });
});

describe('compressed rows', () => {
  const stepOf = (config: Record<string, unknown>) => {
    const { policy, prefill, step } = layerOf({ attendAt: 'gpu', compress: true, ...config });
    prefill();
    const operations = step();
    const find = (kind: Operation['kind']) => operations.filter((o) => o.kind === kind);
    return { decodes: find('decode'), attends: find('attend'), staging: policy.stagingBytes };
  };

  test('are decompressed before attention reads them raw, after they came', () => {
    const { decodes, attends, staging } = stepOf({});
    const raw = 1000 * 8 * 512;
    // Codes and halves of them twice, then three passes over rows.
    expect(decodes).toMatchObject([
      { inBytes: 2 * (1000 * 8 * 144 + raw / 4) + 3 * raw, outBytes: 1.5 * raw + 3 * raw },
    ]);
    expect(attends.map((o) => bytesOf(o).read.hbm)).toEqual([raw + 8 * 512]);
    expect(staging).toBe(2 * 1001 * 8 * 144 + 1001 * 8 * 512);
  });

  test('are read as they are by attention that decodes', () => {
    const { decodes, attends, staging } = stepOf({ fused: true });
    expect(decodes).toEqual([]);
    expect(attends.map((o) => bytesOf(o).read.hbm)).toEqual([1000 * 8 * 144 + 8 * 512]);
    expect(staging).toBe(2 * 1001 * 8 * 144);
  });
});

describe('what lies on NVMe comes to DRAM before', () => {
  const hops = (config: Record<string, unknown>) => {
    const { policy, prefill, step } = layerOf({ nvmeShare: 0.4, ...config }, 2);
    return { prefill: prefill(), step: step(), policy };
  };
  const isLoad = (o: Operation) => o.kind === 'fetch' && o.from === 'nvme';

  test('the CPU attends after it', () => {
    const { prefill, step, policy } = hops({});
    // Operations are numbered on from those of the prompt.
    const load = step.findIndex(isLoad);
    expect(step[load]).toMatchObject({ to: 'dram', stream: 'nvme', rows: 2, rowBytes: 400 * 8 * 512 });
    const attend = step.find((o) => o.kind === 'attend' && o.where === 'cpu');
    expect(attend?.after).toContain(prefill.length + load);
    expect(attend?.kind === 'attend' && attend.readBytes).toEqual({ dram: 2 * 1000 * 8 * 512 });
    expect([policy.stagingBytes, policy.hostStagingBytes]).toEqual(
      [0, 2 * 0.4 * 1001 * 8 * 512].map(Math.ceil),
    );
  });

  test('the copy to the GPU follows it', () => {
    const { prefill, step } = hops({ attendAt: 'gpu' });
    const copy = step.find((o) => o.kind === 'fetch' && o.from === 'dram');
    expect(copy?.after).toContain(prefill.length + step.findIndex(isLoad));
  });

  test('the prompt goes there by way of DRAM', () => {
    const { prefill } = hops({});
    const [out, on] = prefill.filter((o) => o.kind === 'spill');
    expect(out).toMatchObject({ from: 'hbm', to: 'dram', rowBytes: 1000 * 8 * 512 });
    expect(on).toMatchObject({ from: 'dram', to: 'nvme', rowBytes: 400 * 8 * 512, stream: 'nvme' });
    expect(on.after).toEqual([prefill.indexOf(out)]);
  });
});

test('compression costs a little of the output, placement nothing', () => {
  const compress = { attendAt: 'gpu', compress: true };
  expect(runPolicy('flexgen', { hbmShare: 0.3 }, { shape }).outputError).toBe(0);
  const four = runPolicy('flexgen', compress, { shape }).outputError;
  const eight = runPolicy('flexgen', { ...compress, compressBits: 8 }, { shape }).outputError;
  expect(four).toBeGreaterThan(0.02);
  expect(four).toBeLessThan(0.2);
  // Sixteen times finer.
  expect(four / eight).toBeGreaterThan(8);
});

test('what FlexGen cannot combine is named', () => {
  expect(() => runPolicy('flexgen', { compress: true }, { shape })).toThrow(/attendAt/);
  expect(() => runPolicy('flexgen', { compress: true, attendAt: 'gpu', hbmShare: 0.5 }, { shape })).toThrow(
    /hbmShare/,
  );
  expect(() => runPolicy('flexgen', { hbmShare: 0.6, nvmeShare: 0.5 }, { shape })).toThrow(/nvmeShare/);
});
