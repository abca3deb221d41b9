/** The request-trace formats that ship, by name and by content. */
import { TraceError } from '../error.ts';
import { catalog } from './formats/catalog.generated.ts';
import type { RequestFormat } from './request-trace.ts';

const formats: readonly RequestFormat[] = Object.values<RequestFormat>(catalog);

/** The one format whose sniff says yes. Throws TraceError 'not-supported' that lists the known formats. */
export const sniffFormat = (head: string, path: string): RequestFormat => {
  const found = formats.find((format) => format.sniff(head, path));
  if (found !== undefined) return found;
  const known = formats.map((format) => format.kind).join(', ');
  throw new TraceError('not-supported', `${path}: expected a request trace in a known format (${known})`);
};
