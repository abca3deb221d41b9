/** MagicPIG's weights against the chances of its samples, and the bytes that cross to and from the CPU. */
import { describe, expect, test } from 'vitest';
import { dot, GROUP, keys, ROW_BYTES, range, start, total } from '../../../test/policy-steps.ts';
import { emptyDemand } from '../../decode/demand.ts';
import { Lowering } from '../../decode/lower.ts';
import { loadModel } from '../../model/models.ts';
import { samplingChance } from '../lsh-index.ts';

describe('MagicPIG', () => {
  const config = { hashes: 5, tables: 20, localTokens: 30, denseLayers: [] };

  test('attends to sampled keys by the inverse of their chance, and to the rest of HBM as it is', () => {
    const { step, replay } = start('magicpig', config);
    const { q, of, length } = step();
    const means = range(0, 32).map((c) => total(range(4, 570).map((t) => keys[t * 32 + c])) / 566);
    const centred = keys.map((x, at) => x - means[at % 32]);
    const size = (rows: Float32Array, row: number): number => {
      const own = rows.subarray(row * 32, (row + 1) * 32);
      return Math.sqrt(own.reduce((sum, x) => sum + x * x, 0));
    };
    for (let g = 0; g < GROUP; g++) {
      const factors = replay.selections[0].factorsOf(g);
      const attended = of(g);
      expect(attended.filter((t) => t < 4 || t >= 570)).toEqual([...range(0, 4), ...range(570, length)]);
      for (const t of attended) {
        const cosine = dot(q, g, centred, t) / (size(q, g) * size(centred, t));
        const chance = t < 4 || t >= 570 ? 1 - 1e-4 : samplingChance(cosine, 5, 20, 2);
        expect((factors?.[t] ?? 1) * (chance + 1e-4)).toBeCloseTo(1, 3);
      }
    }
  });

  test('the CPU reads a key once for each query head that sampled it; codes, queries and outputs cross', () => {
    const { step, policy, cache } = start('magicpig', config);
    const { demand, of } = step();
    const sampled = total(range(0, GROUP).map((g) => of(g).filter((t) => t >= 4 && t < 570).length));
    expect(demand.fetchTokens).toEqual([sampled]);
    expect(demand.farAttendTokens).toBeCloseTo(sampled / GROUP, 10);
    expect(demand.residentTokens).toEqual([4 + 31]);
    expect(cache.residentBytes('dram')).toBe(566 * (ROW_BYTES + 4 * 20 + 4) + 8 * 20 * 2 ** 5);
    const lowering = new Lowering({
      model: loadModel('llama-3.1-8b'),
      policy,
      forms: cache.forms,
      batch: 1,
      promptTokens: 600,
      elementBytes: 2,
      layerDramBytes: 0,
      dense: false,
    });
    const { operations } = lowering.step(0, [{ append: emptyDemand(1), choice: demand }]);
    const crossing = (kind: string): number =>
      total(operations.map((o) => ('rowBytes' in o && o.kind === kind ? o.rows * o.rowBytes : 0)));
    // 32 query heads of 128 channels in 16 bits; codes of 4 bytes for the 4 query heads of each of 8 KV heads.
    expect(crossing('spill')).toBe(32 * (4 * 20 + 2 * 128));
    expect(crossing('fetch')).toBe(32 * (2 * 128 + 4));
  });
});
