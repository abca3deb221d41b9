/**
 * The one error class of the traces floor. `code` is stable for programs; the message is one line for people
 * that names the file, the field and what was expected.
 */
export type TraceErrorCode =
  /** The file cannot be opened, read or written. */
  | 'io'
  /** The bytes break the format's own rules (length, syntax, offsets, non-finite numbers). */
  | 'malformed'
  /** Two parts of the input disagree (a tensor's shape against the metadata, a data size against a shape). */
  | 'contradiction'
  /** Something that was declared or asked for is not there. */
  | 'missing'
  /** Well-formed, but outside what kvtier reads (a dtype, a format version). */
  | 'not-supported'
  /** An argument or a specification is outside its range. */
  | 'invalid-input';

export class TraceError extends Error {
  readonly code: TraceErrorCode;
  constructor(code: TraceErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TraceError';
    this.code = code;
  }
}
