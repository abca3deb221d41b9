/**
 * Builds programs operation by operation. Ids count over the whole run, so that an operation may wait for one of an
 * earlier step (a load that runs ahead), and always point backwards: a program is acyclic by construction.
 */
import { SimError } from '../error.ts';
import type { Operation, Program } from './operation.ts';

/** An operation without its layer, which the builder adds. */
type Body<T> = T extends Operation ? Omit<T, 'layer'> : never;

export class ProgramBuilder {
  private operations: Operation[] = [];
  private layerId = -1;
  private nextId = 0;

  /** Operations added from now on belong to this layer (-1 = none). */
  setLayer(layer: number): void {
    this.layerId = layer;
  }

  /** Id of the operation added last. */
  get lastId(): number {
    return this.nextId - 1;
  }

  /** Adds an operation and returns its id; `after` names ids of operations added before. */
  add(body: Body<Operation>): number {
    for (const id of body.after) {
      if (!(id >= 0 && id < this.nextId))
        throw new SimError('invariant-broken', `operation ${this.nextId} waits for ${id}`);
    }
    this.operations.push({ ...body, layer: this.layerId } as Operation);
    return this.nextId++;
  }

  /** The operations since the last take; `firstId` is the id of the first. */
  take(): Program & { readonly firstId: number } {
    const operations = this.operations;
    this.operations = [];
    return { operations, firstId: this.nextId - operations.length };
  }
}
