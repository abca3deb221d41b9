/** The eviction rules that ship, by name. */
import { unknownName } from '../../near-names.ts';
import { catalog } from './catalog.generated.ts';
import type { Eviction } from './eviction.ts';

const rules: Readonly<Record<string, Eviction>> = catalog as unknown as Record<string, Eviction>;

export const evictionNames: readonly string[] = Object.keys(rules);

/** `S3-FIFO` is `s3fifo`: case and separators don't matter. */
const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** Throws SimError 'unknown-name' with the names that look like it. */
export const loadEviction = (name: string): Eviction => {
  const found = plain(name);
  if (!Object.hasOwn(rules, found)) throw unknownName('eviction', name, evictionNames, 'evictions');
  return rules[found];
};
