/**
 * Scissorhands' measure of importance (arXiv 2305.17118): of the last `window` queries that could see a token, the
 * share that attended to it at least as much as uniform attention would. One bit per token and query.
 */
export class HitHistory {
  private readonly window: number;
  private readonly hits: Int32Array;
  /** Query at which each token was first seen; -1 = not yet. */
  private readonly born: Int32Array;
  /** Tokens that each of the last `window` queries hit. */
  private readonly ring: Int32Array[] = [];
  private readonly found: Int32Array;
  private queries = 0;

  constructor(window: number, capacityTokens: number) {
    this.window = window;
    this.hits = new Int32Array(capacityTokens);
    this.born = new Int32Array(capacityTokens).fill(-1);
    this.found = new Int32Array(capacityTokens);
  }

  /** One more query: attention over tokens 0 .. row.length-1, of which `attended` were there to be attended to. */
  add(row: Float32Array, attended: number): void {
    const { born, found, hits, ring, window } = this;
    const slot = this.queries % window;
    if (this.queries >= window) for (const token of ring[slot]) hits[token]--;
    const uniform = 1 / attended;
    let count = 0;
    for (let token = 0; token < row.length; token++) {
      if (born[token] < 0) born[token] = this.queries;
      if (row[token] >= uniform) {
        hits[token]++;
        found[count++] = token;
      }
    }
    ring[slot] = found.slice(0, count);
    this.queries++;
  }

  /** Share of the remembered queries that hit the token, 0 to 1; 1 for a token that no query has seen. */
  rate(token: number): number {
    const { born, hits, queries, window } = this;
    if (born[token] < 0) return 1;
    return hits[token] / Math.min(window, queries - born[token]);
  }
}
