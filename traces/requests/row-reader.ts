/**
 * From pieces of text to rows, in constant memory: sniffs the format from the first 64 KiB, cuts lines wherever the
 * pieces end, and turns a bad line into one message with file, line, field and expectation. Isomorphic.
 */
import { TraceError } from '../error.ts';
import { FieldError } from './formats/fields.ts';
import { sniffFormat } from './formats.ts';
import type { LineReader, RequestFormat, RequestRow, RequestTrace } from './request-trace.ts';
import { RequestTraceBuilder } from './trace-builder.ts';

const HEAD_CHARS = 65536;
/** A request of a million blocks with 20-digit hashes stays below. */
const MAX_LINE_CHARS = 1 << 25;

export type RowConsumer = (row: RequestRow, format: RequestFormat) => void;

export class RowReader {
  readonly #path: string;
  readonly #consume: RowConsumer;
  #format: RequestFormat | undefined;
  #lineReader: LineReader | undefined;
  /** Text after the last line break. */
  #rest = '';
  #lineNumber = 0;

  /** `path` names the trace in messages. */
  constructor(path: string, consume: RowConsumer) {
    this.#path = path;
    this.#consume = consume;
  }

  /** Tokens a block as the file or else its format says; 0 before the head has been seen. */
  get blockTokens(): number {
    return this.#lineReader?.blockTokens ?? this.#format?.blockTokens ?? 0;
  }

  /** The next piece of text, cut anywhere between characters. */
  push(piece: string): void {
    const text = this.#rest + piece;
    if (this.#format === undefined && text.length < HEAD_CHARS) {
      this.#rest = text;
      return;
    }
    this.#open(text);
    const end = text.lastIndexOf('\n');
    this.#rest = end < 0 ? text : text.slice(end + 1);
    if (end >= 0) this.#lines(text.slice(0, end));
    if (this.#rest.length > MAX_LINE_CHARS)
      this.#fail('malformed', `expected lines below ${MAX_LINE_CHARS} characters`);
  }

  /** No more text follows. */
  end(): void {
    const text = this.#rest;
    this.#rest = '';
    if (this.#format === undefined && text.trim() === '') {
      throw new TraceError('malformed', `${this.#path}: expected a request trace, found an empty file`);
    }
    this.#open(text);
    if (text !== '') this.#lines(text);
  }

  #open(text: string): void {
    if (this.#format !== undefined) return;
    this.#format = sniffFormat(text.slice(0, HEAD_CHARS).replace(/^\uFEFF/, ''), this.#path);
    this.#lineReader = this.#format.read();
  }

  #lines(text: string): void {
    let from = 0;
    while (from <= text.length) {
      const found = text.indexOf('\n', from);
      const end = found < 0 ? text.length : found;
      this.#lineNumber++;
      const line = text.slice(from, end).trim();
      if (line !== '') this.#line(line);
      from = end + 1;
    }
  }

  #line(line: string): void {
    if (this.#lineReader === undefined || this.#format === undefined) return;
    try {
      const row = this.#lineReader.line(line.startsWith('\uFEFF') ? line.slice(1) : line);
      if (row !== undefined) this.#consume(row, this.#format);
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      this.#fail('malformed', error.message, error);
    }
  }

  #fail(code: 'malformed', message: string, cause?: Error): never {
    throw new TraceError(code, `${this.#path}: line ${this.#lineNumber}: ${message}`, { cause });
  }
}

/** Collects what a RowReader hands over into one trace. */
export class TraceCollector {
  readonly #path: string;
  #builder: RequestTraceBuilder | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  readonly add: RowConsumer = (row, format) => {
    this.#builder ??= new RequestTraceBuilder(format);
    this.#builder.add(row);
  };

  /** `blockTokens` as the reader says at the end. */
  finish(blockTokens: number): RequestTrace {
    if (this.#builder === undefined) {
      throw new TraceError('malformed', `${this.#path}: expected at least one request, found none`);
    }
    return this.#builder.finish(this.#path, blockTokens);
  }
}

/** A whole trace from a text. Throws TraceError with path, line, field and expectation. */
export const parseRequestTrace = (text: string, path: string): RequestTrace => {
  const collector = new TraceCollector(path);
  const reader = new RowReader(path, collector.add);
  reader.push(text);
  reader.end();
  return collector.finish(reader.blockTokens);
};
