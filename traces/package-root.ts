/** Where the package lies: the same folder from the sources and from dist/, so that samples are found from both. */
import { existsSync } from 'node:fs';

/** URL of the folder that holds package.json, with a slash at its end: `new URL('traces/samples/', packageRoot())`. */
export const packageRoot = (): URL => {
  for (const up of ['../', '../../']) {
    const root = new URL(up, import.meta.url);
    if (existsSync(new URL('package.json', root))) return root;
  }
  throw new Error(`package.json not found above ${import.meta.url}`);
};
