/** Appends that attention takes along: which are joined, and that results stay what they are one after the other. */
import { describe, expect, it } from 'vitest';
import { catalog } from '../../kernels/calls.generated.ts';
import type { Call } from '../../kernels/calls.ts';
import { createRandom } from '../../kernels/random.ts';
import { openReference } from '../../kernels/reference.ts';
import { joinedCalls } from './joined.ts';

const ref = (buffer: number) => ({ buffer, offset: 0 });
const shape = { rows: 2, headDim: 8, pageTokens: 1, pageStride: 32 };
const append: Call = {
  kernel: 'append',
  stream: 'compute',
  after: [],
  refs: { k: ref(0), v: ref(1), pool: ref(2), slots: ref(3) },
  ints: shape,
};
const attend: Call = {
  kernel: 'attend',
  stream: 'compute',
  after: [],
  refs: { q: ref(4), pool: ref(2), table: ref(5), offsets: ref(6), tokens: ref(7), out: ref(8) },
  ints: { ...shape, group: 1, format: 0, qType: 0, outType: 0, parts: 0, part: 0, units: 0 },
  reals: { scale: 0 },
};
const copy: Call = { kernel: 'copy', stream: 'd2h', after: [], refs: {}, ints: {} };
const names = (calls: readonly Call[]) => joinedCalls(calls).map(({ kernel }) => kernel);

describe('joined calls', () => {
  it('are an append and the attention right behind it', () => {
    const [first, second, ...more] = joinedCalls([append, attend, { ...copy, after: [1] }]);
    expect(first.kernel).toBe('attend');
    expect(first.refs).toEqual({ ...attend.refs, k: ref(0), v: ref(1), slots: ref(3) });
    expect(second.after).toEqual([0]);
    expect(more).toEqual([]);
  });
  it.each([
    ['another pool', { ...attend, refs: { ...attend.refs, pool: ref(9) } }],
    ['coded pages', { ...attend, ints: { ...attend.ints, format: 2 } }],
    ['other rows', { ...attend, ints: { ...attend.ints, rows: 4 } }],
    ['another stream', { ...attend, stream: 'cpu' as const }],
  ])('stay apart over %s', (_, other) => {
    expect(names([append, other])).toEqual(['append', 'attend']);
  });
  it('stay apart where others wait for the append, or attention waits for others', () => {
    expect(names([append, attend, { ...copy, after: [0] }])).toEqual(['append', 'attend', 'copy']);
    expect(names([copy, append, { ...attend, after: [0] }])).toEqual(['copy', 'append', 'attend']);
    expect(names([copy, { ...append, after: [0] }, { ...attend, after: [0] }])).toEqual(['copy', 'attend']);
  });
  it('leave what they leave one after the other', async () => {
    const random = createRandom(3);
    let one = catalog.attend.randomCase(random);
    while (one.buffers.slots === undefined) one = catalog.attend.randomCase(random);
    const backend = openReference();
    const run = async (join: boolean): Promise<readonly Uint8Array[]> => {
      const refs: Record<string, ReturnType<typeof ref>> = {};
      for (const [name, { tier, data }] of Object.entries(one.buffers)) {
        const bytes = typeof data === 'number' ? data : data.length;
        refs[name] = ref(backend.allocate(tier, Math.max(1, bytes)));
        if (typeof data !== 'number') await backend.write(refs[name].buffer, 0, data);
      }
      const { k, v, slots, ...others } = refs;
      const { rows, headDim, pageTokens, pageStride } = one.ints;
      const calls: readonly Call[] = [
        {
          ...append,
          refs: { k, v, pool: refs.pool, slots },
          ints: { rows, headDim, pageTokens, pageStride },
        },
        { ...attend, refs: others, ints: one.ints },
      ];
      const list = join ? joinedCalls(calls) : calls;
      expect(list.length).toBe(join ? 1 : 2);
      await backend.run(list, { warmups: 0, repeats: 1 });
      return Promise.all(
        one.outputs.map(({ ref: name, bytes }) => backend.read(refs[name].buffer, 0, bytes)),
      );
    };
    expect(await run(true)).toEqual(await run(false));
    backend.close();
  });
});
