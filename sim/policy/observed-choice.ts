/**
 * One layer's queries choose for the layers that follow it (OmniKV's and DeltaKV's observation layers): tokens by the
 * largest logit of any query head. Every layer that asks in the same step gets the same choice, computed once. Where the
 * trace does not record the observation layer, the asking layer's own queries stand in.
 */
import { logitsInto } from '../quality/exact-attention.ts';
import type { StepView, World } from './policy.ts';
import { Ranking } from './ranking.ts';

export class ObservedChoice {
  private readonly world: World;
  private readonly ranking: Ranking;
  private readonly scores: Float32Array;
  /** Choices by observation layer and step; a step's number is all that a later layer needs to find it again. */
  private readonly known = new Map<string, Int32Array>();

  private lastLayer = -1;

  constructor(world: World) {
    this.world = world;
    this.ranking = new Ranking(world.maxTokens);
    this.scores = new Float32Array(world.maxTokens);
  }

  /** Layers are replayed in ascending order: one that is not after the last begins another replay. */
  begin(layer: number): void {
    if (layer <= this.lastLayer) this.known.clear();
    this.lastLayer = layer;
  }

  /** Positions of the `count` best tokens of [from, to), ascending. `observer` null = the view's own layer chooses. */
  choose(view: StepView, observer: number | null, from: number, to: number, count: number): Int32Array {
    const other = observer === null ? null : view.other(observer);
    const key = `${other === null ? view.layer : observer} ${view.step}`;
    const found = this.known.get(key);
    if (found !== undefined) return found;
    const { groupSize, headDim } = this.world;
    const { scores } = this;
    const n = to - from;
    scores.fill(-Infinity, 0, n);
    const rows = new Float32Array(groupSize * n);
    view.heads.forEach((head, at) => {
      const keys = (other?.keys(at) ?? head.keys).subarray(from * headDim, to * headDim);
      logitsInto(other?.queries(at) ?? view.queries(at), groupSize, keys, headDim, n, rows, n);
      for (let i = 0; i < rows.length; i++) if (rows[i] > scores[i % n]) scores[i % n] = rows[i];
    });
    const chosen = this.ranking.best(scores, 0, n, count);
    const positions = this.ranking.positions.slice(0, chosen).map((position) => position + from);
    this.known.set(key, positions);
    return positions;
  }
}
