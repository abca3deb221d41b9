/** The one error class of the simulator floor. `code` is stable for programs; the message is one line for people. */
export type SimErrorCode =
  | 'invalid-input'
  | 'unknown-name'
  | 'invariant-broken'
  | 'capacity-exceeded'
  | 'not-supported';

export class SimError extends Error {
  readonly code: SimErrorCode;
  constructor(code: SimErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SimError';
    this.code = code;
  }
}

/** An invariant holds or the run stops at once: never clamp, never log and go on. */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new SimError('invariant-broken', message);
}
