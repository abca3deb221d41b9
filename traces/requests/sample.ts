/** Where the shipped request trace lies: beside the sources, and above dist/ once built. In Node only. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { TraceError } from '../error.ts';

/** Path of the whole Mooncake conversation trace (traces/samples/requests/README.md). */
export const conversationSample = (): string => {
  for (const up of ['..', '../../../traces']) {
    const path = new URL(`${up}/samples/requests/mooncake-conversation.jsonl.gz`, import.meta.url);
    if (existsSync(path)) return fileURLToPath(path);
  }
  throw new TraceError('missing', `the shipped request trace is not there, looked above ${import.meta.url}`);
};
