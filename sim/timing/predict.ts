/**
 * One operation on one machine, alone: its time, an interval, and whether that lies within what was calibrated.
 * The same cost model that times whole programs; only copies in both directions at once are composed here.
 */
import type { TransferMode } from '../program/operation.ts';
import { costOf } from './cost.ts';
import { attendOf, gatherOf, gemmOf, selectOf } from './cost-cases.ts';
import type { ElementType, Machine } from './cost-machine.ts';
import { gemmCost } from './cost-products.ts';
import { transferCost } from './cost-transfer.ts';
import { type OperationCost, soloNs } from './operation-cost.ts';

export interface CopyRequest {
  readonly op: 'copy';
  readonly direction: 'h2d' | 'd2h' | 'both';
  /** Bytes of one copy; `both` moves as many each way. */
  readonly bytes: number;
  readonly count: number;
  readonly mode: 'dma' | 'dma-batch' | 'pageable';
}

export interface GatherRequest {
  readonly op: 'gather';
  readonly tier: 'hbm' | 'dram';
  readonly mode: 'uva' | 'staged';
  readonly rows: number;
  readonly rowBytes: number;
  /** Bytes that the rows are scattered over; null = not known. */
  readonly regionBytes: number | null;
}

interface Heads {
  readonly batch: number;
  readonly context: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

export interface AttendRequest extends Heads {
  readonly op: 'attend';
  readonly dtype: ElementType;
}

export interface PrefillAttentionRequest extends Heads {
  readonly op: 'prefill-attention';
}

export interface GemmRequest {
  readonly op: 'gemm';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly dtype: ElementType;
}

export interface SelectRequest {
  readonly op: 'select';
  readonly rows: number;
  readonly of: number;
  readonly k: number;
}

export type PredictRequest =
  | CopyRequest
  | GatherRequest
  | AttendRequest
  | PrefillAttentionRequest
  | GemmRequest
  | SelectRequest;

export interface Prediction {
  readonly timeNs: number;
  /** Bounds that the time should stay within in 95 of 100 cases, [lo, hi], ns. */
  readonly intervalNs: readonly [number, number];
  readonly domain: 'calibrated' | 'extrapolated';
  /** What limits it: a link, 'hbm', 'compute', 'cpu', 'launch' or 'latency'. */
  readonly boundBy: string;
  /** Launch, calls and latency before bytes or flops flow, ns. */
  readonly fixedNs: number;
  /** Payload bytes (copies, gathers, KV, operands) and the rate that they reach; null where flops alone count. */
  readonly bytes: number | null;
  readonly bytesPerNs: number | null;
  readonly flops: number | null;
  readonly tflops: number | null;
}

export const ELEMENT_BYTES: Readonly<Record<ElementType, number>> = {
  bf16: 2,
  fp16: 2,
  fp8: 1,
  int8: 1,
  fp32: 4,
};

const FLOPS_PER_TFLOP_NS = 1000;

const toPrediction = (
  cost: OperationCost,
  timeNs: number,
  bytes: number | null,
  flops: number | null,
): Prediction => ({
  timeNs,
  intervalNs: [timeNs * cost.intervalRatio[0], timeNs * cost.intervalRatio[1]],
  domain: cost.domain,
  boundBy: cost.boundBy,
  fixedNs: cost.fixedNs,
  bytes,
  bytesPerNs: bytes === null ? null : bytes / timeNs,
  flops,
  tflops: flops === null ? null : flops / timeNs / FLOPS_PER_TFLOP_NS,
});

const copyCost = (
  machine: Machine,
  { bytes, count, mode }: CopyRequest,
  way: 'h2d' | 'd2h',
): OperationCost => {
  const rows = {
    rows: count,
    rowBytes: bytes,
    mode: mode satisfies TransferMode,
    layer: 0,
    stream: way,
    after: [],
  };
  return way === 'h2d'
    ? transferCost(machine, { ...rows, kind: 'fetch', from: 'dram', to: 'hbm' })
    : transferCost(machine, { ...rows, kind: 'spill', from: 'hbm', to: 'dram' });
};

/** Both directions at once: each at its own rate until the host complex is full, then in equal shares of it. */
const bothWays = (machine: Machine, request: CopyRequest): Prediction => {
  const down = copyCost(machine, request, 'h2d');
  const up = copyCost(machine, request, 'd2h');
  const bytes = request.bytes * request.count;
  const host = machine.link.hostSumBytesPerNs;
  const [slow, fast] = down.soloRatePerNs <= up.soloRatePerNs ? [down, up] : [up, down];
  const slowRate = Math.min(slow.soloRatePerNs, host / 2);
  const fastRate = Math.min(fast.soloRatePerNs, host - slowRate);
  const fastNs = bytes / fastRate;
  // Once the faster direction is done, the slower one has the host to itself.
  const timeNs =
    Math.max(slow.fixedNs, fast.fixedNs) + fastNs + (bytes - fastNs * slowRate) / slow.soloRatePerNs;
  const hostBound = down.soloRatePerNs + up.soloRatePerNs > host;
  return toPrediction({ ...slow, boundBy: hostBound ? 'host' : slow.boundBy }, timeNs, 2 * bytes, null);
};

/** Time of one operation alone on a machine. Throws SimError 'not-supported' where the machine lacks the way. */
export const predict = (request: PredictRequest, machine: Machine): Prediction => {
  const alone = (cost: OperationCost, bytes: number | null, flops: number | null): Prediction =>
    toPrediction(cost, soloNs(cost), bytes, flops);
  switch (request.op) {
    case 'copy': {
      if (request.direction === 'both') return bothWays(machine, request);
      return alone(copyCost(machine, request, request.direction), request.bytes * request.count, null);
    }
    case 'gather': {
      const { tier, rows, rowBytes, regionBytes } = request;
      const mode = request.mode === 'staged' && tier === 'dram' ? 'cpu-gather' : 'uva';
      const region = regionBytes === null ? {} : { regionBytes };
      return alone(
        costOf(gatherOf({ tier, mode, rows, rowBytes, ...region }), machine),
        rows * rowBytes,
        null,
      );
    }
    case 'attend': {
      const attend = attendOf({ ...request, elementBytes: ELEMENT_BYTES[request.dtype] });
      return alone(costOf(attend, machine), attend.readBytes.hbm ?? 0, attend.flops);
    }
    case 'prefill-attention': {
      const attend = attendOf({ ...request, queries: request.context, elementBytes: ELEMENT_BYTES.bf16 });
      return alone(costOf(attend, machine), null, attend.flops);
    }
    case 'gemm': {
      const { m, n, k, dtype } = request;
      const elementBytes = ELEMENT_BYTES[dtype];
      const cost = gemmCost(machine, gemmOf(m, n, k, elementBytes), elementBytes, dtype);
      return alone(cost, (m * k + n * k) * elementBytes + m * n * Math.max(2, elementBytes), 2 * m * n * k);
    }
    case 'select':
      return alone(
        costOf(selectOf(request.rows, request.of, request.k), machine),
        request.rows * request.of * 4,
        null,
      );
    default: {
      const never: never = request;
      return never;
    }
  }
};
