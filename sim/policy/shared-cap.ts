/**
 * When a cap on the mean length of all heads' caches makes every head drop a share of its own (WG-KV with SnapKV-style
 * eviction, EMCLab-Sinica/WG-KV self_attn_forward_patch_inference): at most once a step, while the total is too large.
 * Layers are replayed one at a time, so the totals are foreseen from the prompt's counts and the mean growth.
 */

export interface CapRequest {
  /** Mean tokens a head after the prompt, and how many it gains a step. */
  readonly startTokens: number;
  readonly growthTokens: number;
  readonly capTokens: number;
  readonly evictShare: number;
  readonly steps: number;
}

/** For the prompt and each step after it: whether the heads drop their share when it has ended. */
export const evictionSteps = (request: CapRequest): readonly boolean[] => {
  const { startTokens, growthTokens, capTokens, evictShare, steps } = request;
  let tokens = startTokens;
  return Array.from({ length: steps + 1 }, (_, step) => {
    if (step > 0) tokens += growthTokens;
    if (tokens <= capTokens) return false;
    tokens *= 1 - evictShare;
    return true;
  });
};
