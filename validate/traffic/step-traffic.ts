/**
 * What a bound step reads from and writes to device memory when a last cache stands before it: its calls gone through one
 * behind the other, as they are submitted. A cache knows no policy; what it keeps follows from where calls write, what they
 * read, and how much passes in between. No constant in it is fitted.
 */
import type { Call, Ref } from '../../kernels/calls.ts';
import type { BoundStep } from '../execute/bind.ts';
import { AREA_NAMES, AREAS, areaOf } from '../execute/memory.ts';
import { type Access, ENTRY_BYTES, LastCache, piecesOf } from './last-cache.ts';
import { isByEngine, type Launch, launchesOf, type TableOf, type Touch } from './touched.ts';

export interface StepTraffic {
  /** What calls ask of device memory, bytes, however often they ask for it, engines included. */
  readonly asked: { readonly readBytes: number; readonly writtenBytes: number };
  /** What kernels ask of host memory, bytes. */
  readonly hostReadBytes: number;
  /** What passes between memory and the cache until the step ends, bytes. */
  readonly memory: { readonly readBytes: number; readonly writtenBytes: number };
  /** What lies in the cache then and memory does not have yet: it leaves in a later step, bytes. */
  readonly unwrittenBytes: number;
}

/** Entries and pieces of a touch, in the order in which its runs come. */
interface Pieces {
  readonly entries: Int32Array;
  readonly masks: Int32Array;
  readonly count: number;
  readonly bytes: number;
}

/** Runs that follow each other within an entry are one piece of work. */
const piecesOfRuns = ({ runs }: Touch, base: number): Pieces => {
  let entries = new Int32Array(1024);
  let masks = new Int32Array(1024);
  let count = 0;
  let bytes = 0;
  const put = (entry: number, mask: number): void => {
    if (count > 0 && entries[count - 1] === entry) {
      masks[count - 1] |= mask;
      return;
    }
    if (count === entries.length) {
      const larger = [entries, masks].map((column) => {
        const grown = new Int32Array(2 * count);
        grown.set(column);
        return grown;
      });
      [entries, masks] = larger;
    }
    entries[count] = entry;
    masks[count++] = mask;
  };
  runs((offset, length) => {
    bytes += length;
    const end = base + offset + length;
    for (let at = base + offset; at < end; ) {
      const entry = Math.floor(at / ENTRY_BYTES);
      const first = entry * ENTRY_BYTES;
      const to = Math.min(end, first + ENTRY_BYTES);
      put(entry, piecesOf(at - first, to - first));
      at = to;
    }
  });
  return { entries, masks, count, bytes };
};

interface Running extends Pieces {
  readonly access: Access;
  /** Parts that are gone through at once, and pieces of each. */
  readonly lanes: number;
  readonly each: number;
  next: number;
}

class Play {
  readonly asked = { readBytes: 0, writtenBytes: 0 };
  hostReadBytes = 0;
  readonly cache: LastCache;
  private readonly bases: readonly number[];
  private readonly units: number;

  constructor({ binding }: BoundStep, capacityBytes: number, units: number) {
    let top = 0;
    // Areas lie behind each other, each from an entry of its own.
    this.bases = AREA_NAMES.map((name) => {
      const base = top;
      top += Math.ceil(binding.layout.sizes[name] / ENTRY_BYTES) * ENTRY_BYTES;
      return base;
    });
    this.cache = new LastCache(capacityBytes, top / ENTRY_BYTES);
    this.units = units;
  }

  launch(launch: Launch, byEngine: boolean): void {
    const running = launch.flatMap((touch) => {
      const access = this.accessOf(touch, byEngine);
      return access === null ? [] : [this.start(touch, access)];
    });
    const turns = Math.max(0, ...running.map(({ lanes, each }) => lanes * each));
    for (let turn = 1; turn <= turns; turn++)
      for (const one of running) this.advance(one, Math.floor((turn * one.lanes * one.each) / turns));
  }

  private advance(one: Running, until: number): void {
    const { lanes, each, count, entries, masks, access } = one;
    while (one.next < until) {
      const turn = one.next++;
      const lane = turn % lanes;
      const at = lane * each + (turn - lane) / lanes;
      if (at < count) this.cache.touch(entries[at], masks[at], access);
    }
  }

  /** Host memory that kernels read passes through the cache; engines read it, and all write it, past the cache. */
  private accessOf({ ref, isWrite }: Touch, byEngine: boolean): Access | null {
    const isDevice = AREAS[areaOf(ref)].tier === 'hbm';
    if (!isDevice) return isWrite || byEngine ? null : 'pass';
    if (!isWrite) return 'read';
    return byEngine ? 'through' : 'write';
  }

  private start(touch: Touch, access: Access): Running {
    const pieces = piecesOfRuns(touch, this.bases[touch.ref.buffer] + touch.ref.offset);
    if (access === 'read') this.asked.readBytes += pieces.bytes;
    else if (access === 'pass') this.hostReadBytes += pieces.bytes;
    else this.asked.writtenBytes += pieces.bytes;
    const lanes = touch.atOnce === true ? Math.max(1, Math.min(this.units, pieces.count)) : 1;
    return { ...pieces, access, lanes, each: Math.ceil(pieces.count / lanes), next: 0 };
  }
}

/** Numbers of tables as they are written before a step; each is made once. */
const tablesOf = ({ binding }: BoundStep): TableOf => {
  const places = new Map(
    binding.layout.writes.map((write) => [`${write.ref.buffer} ${write.ref.offset}`, write]),
  );
  return ({ buffer, offset }: Ref): Uint32Array => {
    const write = places.get(`${buffer} ${offset}`);
    if (write === undefined) throw new Error(`no table at ${offset} of ${AREA_NAMES[buffer]}`);
    const numbers = new Uint32Array(write.words);
    write.fill(numbers);
    return numbers;
  };
};

/** Calls of host threads do not touch device memory. */
const isOnDevice = ({ stream }: Call): boolean => stream !== 'cpu' && stream !== 'nvme';

/** The traffic of a step that finds nothing of its own in a cache of `capacityBytes`, on `units` multiprocessors. */
export const stepTraffic = (step: BoundStep, capacityBytes: number, units: number): StepTraffic => {
  const play = new Play(step, capacityBytes, units);
  const tableOf = tablesOf(step);
  for (const call of step.binding.calls.filter(isOnDevice))
    for (const launch of launchesOf(call, tableOf)) play.launch(launch, isByEngine(call));
  const { cache, asked, hostReadBytes } = play;
  const { readBytes, writtenBytes, unwrittenBytes } = cache;
  return { asked, hostReadBytes, memory: { readBytes, writtenBytes }, unwrittenBytes };
};
