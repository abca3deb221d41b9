/**
 * A request trace in memory: one row a request, in order of arrival, as typed columns; prefix blocks as ranges of one
 * array of dense ids. And what a trace format is: one file each under formats/, recognised by its content.
 */

export interface RequestTrace {
  /** The file or generator that it came from. */
  readonly name: string;
  /** Kind of the format that it was read from. */
  readonly format: string;
  /** Tokens a block; 0 when the trace has no blocks. */
  readonly blockTokens: number;
  /** ns since the trace's own start, ascending. */
  readonly arrivalNs: Float64Array;
  readonly inputTokens: Int32Array;
  readonly outputTokens: Int32Array;
  /** requests + 1 entries: request r uses blockIds[offsets[r] .. offsets[r + 1]), head of its prompt first. */
  readonly offsets: Int32Array;
  /** Dense ids 0 .. uniqueBlocks - 1, numbered by first appearance in the file. */
  readonly blockIds: Int32Array;
  readonly uniqueBlocks: number;
  /** Dense session of each request, -1 for none; null when the format has no sessions. */
  readonly session: Int32Array | null;
  /** Wait between the session's previous answer and this request, ns; null when the format does not say. */
  readonly thinkNs: Float64Array | null;
  /** What the reader had to assume or found odd, for the result's notes. */
  readonly notes: readonly string[];
}

/** Hashes identify blocks only by equality; large integers arrive as strings, since doubles would merge them. */
export type BlockHash = number | string;

/** One request as a format reads it. */
export interface RequestRow {
  readonly arrivalNs: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly hashes: readonly BlockHash[];
  readonly session?: number | string | undefined;
  readonly thinkNs?: number | undefined;
}

/** Reads one file, line by line. */
export interface LineReader {
  /** The next non-empty line; undefined when it holds no request (a header). Throws FieldError (formats/fields.ts). */
  readonly line: (text: string) => RequestRow | undefined;
  /** Tokens a block as this file itself states them; undefined: as the format defines. */
  readonly blockTokens?: number | undefined;
}

export interface RequestFormat {
  readonly kind: string;
  readonly title: string;
  /** Where the format is described. */
  readonly source: string;
  /** Tokens a block as the format defines it; the lengths of the trace overrule it when they contradict it. */
  readonly blockTokens: number;
  /** Does a file that begins with `head` (up to 64 KiB of text, perhaps cut inside a line) hold this format? */
  sniff(head: string, path: string): boolean;
  /** A reader for one file; the caller adds file and line to its errors. */
  read(): LineReader;
}
