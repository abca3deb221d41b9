/** Resources of a machine that operations share: all that the interpreter needs of one. cost-machine.ts has what prices operations. */
import type { Profile } from '../hardware/schema.ts';
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

/** A processor that is its own accelerator: hbm and dram are one memory, and all that runs shares its cores. */
export const isProcessor = ({ kind }: Pick<Profile['link'], 'kind'>): boolean => kind === 'memory';

/** Resources that a profile's operations share; a processor's cores take core-ns instead of bytes. */
export const resourcesOf = ({ accelerator, host, link, nvme }: Profile): readonly MachineResource[] => [
  { name: 'hbm', label: 'hbm', rateBytesPerNs: accelerator.hbm.achievedBytesPerNs.value },
  { name: 'h2d', label: `${link.kind}.h2d`, rateBytesPerNs: link.h2dBytesPerNs.value },
  { name: 'd2h', label: `${link.kind}.d2h`, rateBytesPerNs: link.d2hBytesPerNs.value },
  { name: 'host', label: 'host', rateBytesPerNs: link.hostSumBytesPerNs.value },
  { name: 'dram', label: 'dram', rateBytesPerNs: host.dram.readBytesPerNs.value },
  ...(isProcessor(link)
    ? [{ name: 'cores', label: 'cores', rateBytesPerNs: accelerator.sms.value } as const]
    : []),
  ...(nvme ? [{ name: 'nvme', label: 'nvme', rateBytesPerNs: nvme.readBytesPerNs.value } as const] : []),
];
