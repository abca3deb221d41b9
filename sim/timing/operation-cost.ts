/**
 * What the cost model says of one operation on one machine: a fixed part that nothing shares, then a flow.
 * The interpreter plays the flow on the fabric, where other flows slow it down.
 */

/**
 * Resources that flows share. `h2d`/`d2h` are the two directions of the host link (PCIe or C2C), `cores` those of a
 * processor that is its own accelerator, in core-ns instead of bytes.
 */
export type ResourceName = 'hbm' | 'h2d' | 'd2h' | 'host' | 'dram' | 'cores' | 'nvme';

export interface Demand {
  readonly resource: ResourceName;
  /** Bytes taken from the resource per unit of the flow's amount (a pageable copy takes DRAM more than once). */
  readonly bytesPerAmount: number;
}

export interface OperationCost {
  /** Launch, per-call and latency time that passes before the flow starts and that no one shares. */
  readonly fixedNs: number;
  /** As much of the fixed part passes while its stream still works on what came before; absent = all of it. */
  readonly toldNs?: number;
  /** Size of the flow: bytes where bytes bind, flops where flops bind; 0 = nothing after the fixed part. */
  readonly amount: number;
  /** Units of amount per ns when the operation runs alone; > 0 where amount > 0. */
  readonly soloRatePerNs: number;
  readonly demands: readonly Demand[];
  /** Its rate beside other flows', where they share something; absent = equal bytes of what each takes most of. */
  readonly weight?: number;
  /** CPU time of its launches, ns, where they run ahead of the GPU; absent = in the fixed part as far as it shows. */
  readonly hostNs?: number;
  /** What limits the flow when alone: a resource label, 'compute', 'launch' or 'latency'. */
  readonly boundBy: string;
  /** Bounds of the solo time, as ratios to it: [lo, hi], lo <= 1 <= hi. */
  readonly intervalRatio: readonly [number, number];
  readonly domain: 'calibrated' | 'extrapolated';
}

/** Time of the operation when nothing else runs, ns. */
export const soloNs = (cost: OperationCost): number =>
  cost.fixedNs + (cost.amount > 0 ? cost.amount / cost.soloRatePerNs : 0);
