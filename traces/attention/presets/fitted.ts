/** A preset from the lines that a fit wrote: every head of the model by its own profile. */
import type { HeadProfile, SyntheticPreset, SyntheticShape, TextProfile } from './preset.ts';
import { decodeProfile } from './profile-code.ts';

/** Mean lengths that coherence is fitted to, and a vocabulary of which a few thousand tokens occur in a long prompt. */
export const fittedText: TextProfile = {
  wordTokens: 2,
  sentenceTokens: 10,
  passageTokens: 100,
  vocabulary: 4096,
};

export function fittedPreset(
  name: string,
  shape: SyntheticShape,
  profiles: readonly string[],
): SyntheticPreset & { readonly shape: SyntheticShape; profile(layer: number, kvHead: number): HeadProfile } {
  const decoded = new Map<number, HeadProfile>();
  const profile = (layer: number, kvHead: number): HeadProfile => {
    const at = layer * shape.kvHeads + kvHead;
    const known =
      decoded.get(at) ?? decodeProfile(profiles[at], shape.headDim / 2, shape.heads / shape.kvHeads);
    decoded.set(at, known);
    return known;
  };
  return {
    name,
    shape,
    text: fittedText,
    profile,
    plan: (_, layer, kvHead) => ({ profile: profile(layer, kvHead), target: null }),
  };
}
