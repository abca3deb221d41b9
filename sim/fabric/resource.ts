/**
 * The shared resources of a machine (HBM, link directions, DRAM …) as columns: a capacity in bytes per ns
 * (1 byte/ns = 1 GB/s), the load that runs now, and what was carried so far. Busy time is the time with any load.
 */
import { SimError } from '../error.ts';

export interface ResourceSpec {
  readonly name: string;
  /** Capacity, >= 0 and finite. 0 stalls the flows that need it. */
  readonly rateBytesPerNs: number;
}

export class Resources {
  readonly names: readonly string[];
  readonly rateBytesPerNs: Float64Array;
  /** Bytes per ns that the present flows take. */
  readonly loadBytesPerNs: Float64Array;
  readonly usedBytes: Float64Array;
  readonly busyNs: Float64Array;

  constructor(specs: readonly ResourceSpec[]) {
    this.names = specs.map((spec) => spec.name);
    const twice = this.names.find((name, i) => this.names.indexOf(name) !== i);
    if (twice !== undefined) throw new SimError('invalid-input', `resource ${twice}: named twice`);
    this.rateBytesPerNs = new Float64Array(specs.length);
    this.loadBytesPerNs = new Float64Array(specs.length);
    this.usedBytes = new Float64Array(specs.length);
    this.busyNs = new Float64Array(specs.length);
    for (let r = 0; r < specs.length; r++) this.setRate(r, specs[r].rateBytesPerNs);
  }

  /** Position of a resource; throws `unknown-name` with the names there are. */
  index(name: string): number {
    const r = this.names.indexOf(name);
    if (r < 0)
      throw new SimError('unknown-name', `resource ${name}: expected one of ${this.names.join(', ')}`);
    return r;
  }

  setRate(r: number, rateBytesPerNs: number): void {
    if (!(rateBytesPerNs >= 0 && rateBytesPerNs < Number.POSITIVE_INFINITY)) {
      throw new SimError(
        'invalid-input',
        `resource ${this.names[r]}: expected a finite rateBytesPerNs >= 0, got ${rateBytesPerNs}`,
      );
    }
    this.rateBytesPerNs[r] = rateBytesPerNs;
  }

  /** Adds what the present load carries in `forNs`. */
  advance(forNs: number): void {
    const load = this.loadBytesPerNs;
    for (let r = 0; r < load.length; r++) {
      if (load[r] > 0) {
        this.usedBytes[r] += load[r] * forNs;
        this.busyNs[r] += forNs;
      }
    }
  }
}
