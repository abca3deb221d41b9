/**
 * Collision scores of keys: collisions u16 [rows, scoreStride], of which the first `tokens` are written, = the sum over
 * subspaces of the tier of the key's sign byte. ids u8 [rows, tokenStride, subspaces] of paris-encode, tiers u8
 * [rows, subspaces, 256] of paris-tiers; subspaces a multiple of 8 up to 128. amy-77/ParisKV collision_fused/collision.cu.
 */
import { type KernelSpec, rowsExtent } from '../calls.ts';
import { u16View } from '../floats.ts';
import { PATTERNS } from '../paris.ts';

export const call = {
  name: 'paris-collide',
  refs: ['ids', 'tiers', 'collisions'],
  writes: ['collisions'],
  ints: ['rows', 'tokens', 'subspaces', 'tokenStride', 'scoreStride'],
  reals: [],
  extents: ({ rows, tokens, subspaces, tokenStride, scoreStride }) => ({
    ids: rowsExtent(rows, tokens * subspaces, tokenStride * subspaces),
    tiers: rows * subspaces * PATTERNS,
    collisions: rowsExtent(rows, 2 * tokens, 2 * scoreStride),
  }),
  reference({ ints: { rows, tokens, subspaces, tokenStride, scoreStride }, bytes }) {
    const [ids, tiers] = [bytes('ids'), bytes('tiers')];
    const collisions = u16View(bytes('collisions'));
    for (let row = 0; row < rows; row++)
      for (let token = 0; token < tokens; token++) {
        let score = 0;
        for (let b = 0; b < subspaces; b++)
          score += tiers[(row * subspaces + b) * PATTERNS + ids[(row * tokenStride + token) * subspaces + b]];
        collisions[row * scoreStride + token] = score;
      }
  },
  randomCase(random) {
    const rows = random.integer(1, 4);
    const subspaces = random.among([8, 16, 32, 64, 128]);
    const tokens = random.integer(1, 700);
    const tokenStride = tokens + random.integer(0, 2);
    const scoreStride = tokens + random.integer(0, 3);
    const byte = (most: number) => () => random.integer(0, most);
    const bytes = 2 * rows * scoreStride;
    return {
      label: `paris-collide rows ${rows} tokens ${tokens} subspaces ${subspaces}`,
      buffers: {
        ids: { tier: 'hbm', data: Uint8Array.from({ length: rows * tokenStride * subspaces }, byte(255)) },
        tiers: { tier: 'hbm', data: Uint8Array.from({ length: rows * subspaces * PATTERNS }, byte(6)) },
        collisions: { tier: 'hbm', data: bytes },
      },
      ints: { rows, tokens, subspaces, tokenStride, scoreStride },
      outputs: [{ ref: 'collisions', bytes, type: 'u8', tolerance: 0 }],
    };
  },
} satisfies KernelSpec;
