/**
 * Memory of an execution: areas, each a buffer in one tier that is filled once, in which the parts of a case are laid
 * out before anything is allocated. So a case's size is known beforehand, and cases share the same buffers.
 */
import type { Backend, Fill } from '../../kernels/backend.ts';
import type { Ref, Tier } from '../../kernels/calls.ts';

/** Areas by what they hold, so that tables are never read as numbers. */
export const AREAS = {
  /** KV pools and staging, index rows. */
  kv: { tier: 'hbm', fill: 'normal-bf16' },
  /** KV and indexes in host memory that kernels and copy engines reach. */
  host: { tier: 'dram', fill: 'normal-bf16' },
  pageable: { tier: 'pageable', fill: 'normal-bf16' },
  /** Where host threads pack rows that are sent, and find rows that have come: a buffer a direction, used again and again. */
  packing: { tier: 'dram', fill: 'zero' },
  landing: { tier: 'dram', fill: 'zero' },
  /** Codes of an index: bytes of any value. */
  codes: { tier: 'hbm', fill: 'bytes' },
  /** What lies on the drive, or in the file that stands in for one. */
  file: { tier: 'nvme', fill: 'bytes' },
  /** Scores: finite numbers, as selections need them. */
  scores: { tier: 'hbm', fill: 'normal-f32' },
  hostScores: { tier: 'dram', fill: 'normal-f32' },
  /** What calls write and no call of another case reads: anything may stand there. */
  outputs: { tier: 'hbm', fill: 'zero' },
  hostOutputs: { tier: 'dram', fill: 'zero' },
  /** Page tables and row lists; written for each case. */
  tables: { tier: 'hbm', fill: 'zero' },
  hostTables: { tier: 'dram', fill: 'zero' },
} as const satisfies Readonly<Record<string, { readonly tier: Tier; readonly fill: Fill }>>;

export type AreaName = keyof typeof AREAS;
export const AREA_NAMES = Object.keys(AREAS) as AreaName[];

/** In this order areas are allocated: what a GPU lacks shows before gigabytes of host memory are pinned, which takes seconds. */
const ALLOCATED = [
  ...AREA_NAMES.filter((name) => AREAS[name].tier === 'hbm'),
  ...AREA_NAMES.filter((name) => AREAS[name].tier !== 'hbm'),
];

const ALIGNMENT = 256;

/** A place in an area; its `buffer` is the area's position in AREA_NAMES until the area is allocated. */
export const areaOf = ({ buffer }: Ref): AreaName => AREA_NAMES[buffer];

/** Puts numbers where they are written; tables of a long step would fill memory if they were kept. */
export type FillTable = (target: Uint32Array) => void;

/** 32-bit numbers by their positions, in a plain loop: tables have millions. */
export const byPosition =
  (of: (i: number) => number): FillTable =>
  (target) => {
    for (let i = 0; i < target.length; i++) target[i] = of(i);
  };

const bytesOf = ({ buffer, byteOffset, byteLength }: Uint32Array): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** A table in its place. */
interface TableWrite {
  readonly ref: Ref;
  readonly words: number;
  readonly fill: FillTable;
}

/** Tables of one area that follow each other, as they lie. */
export const imageOf = (writes: readonly TableWrite[]): Uint8Array => {
  const from = writes[0].ref.offset;
  const last = writes[writes.length - 1];
  const image = new Uint32Array((last.ref.offset - from) / 4 + last.words);
  for (const { ref, words, fill } of writes) {
    const at = (ref.offset - from) / 4;
    fill(image.subarray(at, at + words));
  }
  return bytesOf(image);
};

/** Bytes laid out so far by area, and what is to be written into them. */
export class Layout {
  readonly sizes: Record<AreaName, number>;
  readonly writes: TableWrite[] = [];

  constructor() {
    this.sizes = Object.fromEntries(AREA_NAMES.map((name) => [name, 0])) as Record<AreaName, number>;
  }

  /** Room for `bytes` (at least one); contents are the area's fill. */
  place(area: AreaName, bytes: number, alignment = ALIGNMENT): Ref {
    const offset = Math.ceil(this.sizes[area] / alignment) * alignment;
    this.sizes[area] = offset + Math.max(1, Math.ceil(bytes));
    return { buffer: AREA_NAMES.indexOf(area), offset };
  }

  /** The one place of an area whose users take turns: as large as the largest asks for. */
  shared(area: 'packing' | 'landing', bytes: number): Ref {
    this.sizes[area] = Math.max(this.sizes[area], Math.ceil(bytes));
    return { buffer: AREA_NAMES.indexOf(area), offset: 0 };
  }

  /** 32-bit numbers, in a table of either tier; they must not change afterwards. */
  table(area: 'tables' | 'hostTables', values: ArrayLike<number>): Ref {
    const numbers = values instanceof Uint32Array ? values : new Uint32Array(values);
    return this.numbers(area, numbers.length, (target) => target.set(numbers));
  }

  /** `words` 32-bit numbers that are made when they are written, and not kept. */
  numbers(area: 'tables' | 'hostTables', words: number, fill: FillTable): Ref {
    const ref = this.place(area, 4 * Math.max(1, words));
    if (words > 0) this.writes.push({ ref, words, fill });
    return ref;
  }

  /** As `numbers`, of `bytes` that are made somewhere else. */
  drawn(area: 'tables' | 'hostTables', bytes: number, make: () => Uint8Array): Ref {
    return this.numbers(area, Math.ceil(bytes / 4), (target) => bytesOf(target).set(make()));
  }

  bytesIn(tier: Tier): number {
    return AREA_NAMES.reduce((sum, name) => sum + (AREAS[name].tier === tier ? this.sizes[name] : 0), 0);
  }
}

/** A place further on. */
export const plus = ({ buffer, offset }: Ref, bytes: number): Ref => ({ buffer, offset: offset + bytes });

/** Buffers of a backend for all areas, as large as the largest case. */
export class Memory {
  private readonly backend: Backend;
  private readonly buffers: ReadonlyMap<number, number>;

  private constructor(backend: Backend, buffers: ReadonlyMap<number, number>) {
    this.backend = backend;
    this.buffers = buffers;
  }

  /** Allocates and fills. Throws KernelError where a tier is too small, with nothing left allocated. */
  static async allocate(
    backend: Backend,
    sizes: Readonly<Record<AreaName, number>>,
    seed: number,
  ): Promise<Memory> {
    const buffers = new Map<number, number>();
    try {
      const bytesOfArea = (name: AreaName): number => Math.ceil(sizes[name] / 4096) * 4096;
      for (const name of ALLOCATED) {
        const bytes = bytesOfArea(name);
        if (bytes > 0) buffers.set(AREA_NAMES.indexOf(name), backend.allocate(AREAS[name].tier, bytes));
      }
      for (const [at, buffer] of buffers) {
        const name = AREA_NAMES[at];
        await backend.fill(buffer, 0, bytesOfArea(name), AREAS[name].fill, seed + at);
      }
    } catch (error) {
      for (const buffer of buffers.values()) backend.free(buffer);
      throw error;
    }
    return new Memory(backend, buffers);
  }

  /** The place in the backend's own buffer. */
  real({ buffer, offset }: Ref): Ref {
    const own = this.buffers.get(buffer);
    if (own === undefined) throw new Error(`area ${AREA_NAMES[buffer]} has no buffer`);
    return { buffer: own, offset };
  }

  async write(ref: Ref, data: Uint8Array): Promise<void> {
    const { buffer, offset } = this.real(ref);
    await this.backend.write(buffer, offset, data);
  }

  async read(ref: Ref, bytes: number): Promise<Uint8Array> {
    const { buffer, offset } = this.real(ref);
    return await this.backend.read(buffer, offset, bytes);
  }

  free(): void {
    for (const buffer of this.buffers.values()) this.backend.free(buffer);
  }
}
