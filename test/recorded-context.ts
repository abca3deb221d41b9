/** What a verb prints, kept for a test to look at. */
import type { VerbContext } from '../cli/verb.ts';

export interface RecordedContext {
  readonly context: VerbContext;
  readonly documents: unknown[];
  readonly lines: string[];
  readonly notes: string[];
}

export const recordedContext = ({ json = true, columns = 100 } = {}): RecordedContext => {
  const documents: unknown[] = [];
  const lines: string[] = [];
  const notes: string[] = [];
  const context: VerbContext = {
    json,
    columns,
    print: (text) => lines.push(text),
    // As a reader of the printed text has it.
    printJson: (document) => documents.push(JSON.parse(JSON.stringify(document))),
    note: (text) => notes.push(text),
    progress: () => ({ update: () => {}, end: () => {} }),
  };
  return { context, documents, lines, notes };
};
