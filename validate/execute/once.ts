/** What is made once and shared: what the first that asks for a key makes, all others get. */

interface Known<K, T> {
  get(key: K): T | undefined;
  set(key: K, made: T): unknown;
}

export const once = <K, T>(known: Known<K, T>, key: K, make: () => T): T => {
  const old = known.get(key);
  if (old !== undefined) return old;
  const made = make();
  known.set(key, made);
  return made;
};
