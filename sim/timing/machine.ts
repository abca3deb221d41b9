/** A machine as the interpreter needs it: resources to share. cost.ts adds what it needs to price operations. */
import type { ResourceName } from './operation-cost.ts';

export interface MachineResource {
  readonly name: ResourceName;
  /** What people read: 'hbm', 'pcie.h2d', 'c2c.h2d', 'dram', 'host'. */
  readonly label: string;
  readonly rateBytesPerNs: number;
}

export interface SharedResources {
  readonly resources: readonly MachineResource[];
}
