/** What the fit of a head sees of a capture, and which of its tokens are ordinary text. */
import type { MeasuredHead } from '../presets/preset.ts';
import type { UnrotatedHead } from './unrotated.ts';

/** One captured prompt as the fit sees it. */
export interface FitSource {
  readonly head: UnrotatedHead;
  /** Equal numbers for equal tokens; null = not known. */
  readonly identities: Int32Array | null;
  readonly measured: MeasuredHead;
  /** Last tokens of the prompt that hold the question. */
  readonly questionTokens: number;
}

/** Tokens at the start that are no ordinary text: the sink, and a chat template with its marks. */
export const skippedTokens = 64;
