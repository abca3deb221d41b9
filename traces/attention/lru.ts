/**
 * Decoded tensors kept while they fit a byte budget; the newest entry always stays, so that one tensor larger than
 * the budget still works. Callers may keep what they were given: dropping an entry never touches its array.
 */
export class ArrayCache {
  readonly #entries = new Map<string, Float32Array>();
  readonly #budgetBytes: number;
  #sizeBytes = 0;

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  /** The array under `key`, made by `make` when it is not kept. */
  get(key: string, make: () => Float32Array): Float32Array {
    const kept = this.#entries.get(key);
    if (kept) {
      this.#entries.delete(key);
      this.#entries.set(key, kept);
      return kept;
    }
    this.#dropUntil(0);
    const made = make();
    this.#dropUntil(made.byteLength);
    this.#entries.set(key, made);
    this.#sizeBytes += made.byteLength;
    return made;
  }

  /** Few entries and one call a tensor, so the order of a Map serves here, unlike in a per-access cache. */
  #dropUntil(incomingBytes: number): void {
    for (const [key, array] of this.#entries) {
      if (this.#sizeBytes + incomingBytes <= this.#budgetBytes) return;
      this.#entries.delete(key);
      this.#sizeBytes -= array.byteLength;
    }
  }
}
