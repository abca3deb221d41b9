/** Pieces of host memory that chosen rows lie in, against a set of the addresses of all their bytes' pieces. */
import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { HeadCache } from '../memory/head-cache.ts';
import type { Transfer } from '../policy/transfer.ts';
import { PIECE_BYTES } from '../program/operation.ts';
import { Selection } from '../quality/selection.ts';
import { farPieces } from './far-pieces.ts';

const transfer = { mode: 'uva', rowTokens: 1, joinHeads: false, joinKv: false, overlap: 'step' } as const;

test('counts the pieces of keys and of values, wherever the policy lays the tokens', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3000 }),
      fc.integer({ min: 0, max: 4 }),
      fc.boolean(),
      fc.boolean(),
      fc.infiniteStream(fc.nat()),
      (tokens, inHbm, joinKv, laidOut, random) => {
        const cache = new HeadCache(tokens, [{ name: 'raw', kBytesPerToken: 256, vBytesPerToken: 128 }]);
        cache.append(tokens);
        cache.move(inHbm, Math.max(inHbm, tokens), 'dram');
        const far = Math.max(0, tokens - inHbm);
        const order = Array.from({ length: far }, (_, i) => i);
        if (laidOut) {
          for (let i = far - 1; i > 0; i--) {
            const j = (random.next().value ?? 0) % (i + 1);
            [order[i], order[j]] = [order[j], order[i]];
          }
          cache.farSlots = new Int32Array(tokens);
          for (let i = 0; i < far; i++) cache.farSlots[inHbm + i] = 2 * order[i];
        }
        const selection = new Selection(tokens);
        selection.reset(tokens);
        selection.none();
        const keys = new Set<number>();
        const values = new Set<number>();
        const both = new Set<number>();
        for (let token = inHbm; token < tokens; token++) {
          if ((random.next().value ?? 0) % 40 !== 0) continue;
          selection.take(token, token + 1);
          const slot = laidOut ? 2 * order[token - inHbm] : token - inHbm;
          keys.add(Math.floor((slot * 256) / PIECE_BYTES));
          values.add(Math.floor((slot * 128) / PIECE_BYTES));
          both.add(Math.floor((slot * 384) / PIECE_BYTES));
        }
        const [pieces] = farPieces(cache, selection, { ...transfer, joinKv } satisfies Transfer, 8);
        expect(pieces).toBe(joinKv ? both.size : keys.size + values.size);
      },
    ),
    { seed: 42, numRuns: 60 },
  );
});
