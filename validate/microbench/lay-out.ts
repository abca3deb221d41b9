/** A site laid out in buffers that it shares with others. */
import type { Call, Ref } from '../../kernels/calls.ts';
import { type AreaName, areaOf, imageOf, Layout, type Memory } from '../execute/memory.ts';
import type { Site } from './microbench.ts';

/** Calls of a site, with its tables written. `base`: where its memory begins in each area; at the start, if left out. */
export const layOut = async (
  site: Site,
  memory: Memory,
  base?: Readonly<Record<AreaName, number>>,
): Promise<readonly Call[]> => {
  const layout = new Layout();
  const placed = (ref: Ref): Ref => ({ ...ref, offset: ref.offset + (base?.[areaOf(ref)] ?? 0) });
  const calls = site.build(layout).map((call) => ({
    ...call,
    refs: Object.fromEntries(
      Object.entries(call.refs).map(([name, ref]) => [name, memory.real(placed(ref))]),
    ),
  }));
  for (const write of layout.writes) await memory.write(placed(write.ref), imageOf([write]));
  return calls;
};
