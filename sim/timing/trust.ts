/**
 * How far a law of the cost model can be trusted, and the laws of single kernels that a stack was measured with.
 */
import { statusesOf } from '../hardware/load.ts';
import type { Quantity } from '../hardware/quantity.ts';
import type { Stack } from '../hardware/stack-schema.ts';

/** How far a law can be trusted. */
export interface Trust {
  /** P95 of the absolute relative error. */
  readonly errorRatio: number;
  /** True when every number of the law was measured, fitted or published. */
  readonly anchored: boolean;
}

/** What a pass over memory costs beside its bytes: grows from 0 to rampNs, half of it at rampBytes. */
export interface Ramp {
  readonly rampNs: number;
  readonly rampBytes: number;
}

/** Numbers of a ramp where a profile or stack states one, else no ramp. */
export const rampOf = (law: {
  readonly rampNs?: Quantity | undefined;
  readonly rampBytes?: Quantity | undefined;
}): Ramp => ({ rampNs: law.rampNs?.value ?? 0, rampBytes: law.rampBytes?.value ?? 1 });

/** Time that the ramp adds to a pass over `bytes`, ns. */
export const rampNsOf = ({ rampNs, rampBytes }: Ramp, bytes: number): number =>
  (rampNs * bytes) / (bytes + rampBytes);

/** A kernel's own law: what it takes to start, and its shares of the rates of memory and of plain cores. */
export interface KernelLaw extends Trust, Ramp {
  readonly startNs: number;
  readonly rowNs: number;
  readonly headNs: number;
  /** Absent where it is that of attention over plain KV. */
  readonly turnNs?: number | undefined;
  readonly rateRatio: number;
  readonly flopsRatio: number;
  /** Absent where tables are filled as the rest is computed. */
  readonly tableRatio?: number | undefined;
  readonly matrixRatio: number;
  /** Whether arithmetic adds to the time of bytes, or hides behind it. */
  readonly inPasses: boolean;
  /** Time of a tile that is alone on its multiprocessor over that of one in turn with others; 1 where it is the same. */
  readonly aloneRatio: number;
}

/** What an assumed number adds to a law's error: parts of one generation differ by about this much from each other. */
const ASSUMED_ERROR = 0.15;
export const trustOf = (laws: readonly unknown[], error: Quantity | { readonly value: number }): Trust => {
  const statuses = laws.flatMap((law) => statusesOf(law));
  const anchored = !statuses.includes('assumed');
  return { errorRatio: error.value + (anchored ? 0 : ASSUMED_ERROR), anchored };
};

/** The measured kernels of a stack: those of the GPU, or of host threads. */
export const kernelsOf = (
  kernels: NonNullable<Stack['kernels'] | Stack['hostKernels']> = {},
): Readonly<Record<string, KernelLaw>> =>
  Object.fromEntries(
    Object.entries(kernels).map(([name, law]) => [
      name,
      {
        ...trustOf([law], law.errorRatio),
        startNs: law.startNs.value,
        rowNs: law.rowNs?.value ?? 0,
        headNs: law.headNs?.value ?? 0,
        turnNs: law.turnNs?.value,
        ...rampOf(law),
        rateRatio: law.rateRatio.value,
        flopsRatio: law.flopsRatio.value,
        tableRatio: law.tableRatio?.value,
        matrixRatio: law.matrixRatio?.value ?? 1,
        inPasses: law.inPasses?.value ?? false,
        aloneRatio: law.aloneRatio?.value ?? 1,
      },
    ]),
  );
