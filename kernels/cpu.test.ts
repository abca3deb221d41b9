/**
 * Every kernel of the CPU backend against the reference, at the lowest and the highest instruction set level that this
 * processor has, between fences, so that reading or writing past a buffer is a fault; and every kernel refuses buffers that are too short for what its arguments say.
 */
import { afterAll, expect, it } from 'vitest';
import { describeNative, missing, openCpu } from '../test/native.ts';
import type { Backend } from './backend.ts';
import { catalog } from './calls.generated.ts';
import type { Call, KernelSpec, Ref } from './calls.ts';
import { compareKernel } from './differential.ts';
import { createRandom } from './random.ts';

const backends: readonly Backend[] =
  missing === null ? await Promise.all([openCpu({ fences: 1 }), openCpu({ level: 0, fences: 1 })]) : [];
afterAll(() => {
  for (const backend of backends) backend.close();
});

const kernels: readonly KernelSpec[] = Object.values(catalog);
const has = ({ name }: KernelSpec): boolean => backends[0]?.device.kernels.includes(name) === true;

describeNative('kernels of the CPU backend', () => {
  it.each(kernels.filter(has))('agree with the reference: $name', async ({ name }) => {
    const [best, baseline] = backends;
    const differences = [
      ...(await compareKernel(best, name, 8, 42)),
      ...(await compareKernel(baseline, name, 4, 43)),
    ];
    for (const { failure } of differences) expect(failure).toBeNull();
  });

  it('attend within rows of heads that are narrower than the lowest level pads them to', async () => {
    const [, baseline] = backends;
    for (const { failure } of await compareKernel(baseline, 'attend', 8, 12)) expect(failure).toBeNull();
  });

  it.each(kernels.filter((spec) => has(spec) && spec.extents !== undefined))(
    'refuse short buffers: $name',
    async (spec) => {
      const [backend] = backends;
      const { ints, reals = {}, buffers } = spec.randomCase(createRandom(7));
      const extents = spec.extents?.(ints) ?? {};
      const sizes = Object.fromEntries(Object.keys(buffers).map((name) => [name, extents[name] ?? 64]));
      for (const short of Object.keys(buffers).filter((name) => extents[name] > 0)) {
        const refs: Record<string, Ref> = {};
        for (const [name, { tier }] of Object.entries(buffers))
          refs[name] = { buffer: backend.allocate(tier, Math.max(1, sizes[name])), offset: 0 };
        refs[short] = { buffer: refs[short].buffer, offset: 1 };
        const call: Call = { kernel: spec.name, stream: 'compute', after: [], refs, ints, reals };
        await expect(backend.run([call])).rejects.toMatchObject({
          code: 'invalid',
          message: expect.stringContaining(`${spec.name}: ${short} is bytes 1 to`),
        });
        for (const { buffer } of Object.values(refs)) backend.free(buffer);
      }
    },
  );
});
