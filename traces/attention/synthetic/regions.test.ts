/** Parts of a prompt lie in order, and the evidence inside the text. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { evidenceWindow, isEvidence, placeInText, regionBounds, startTokens } from './regions.ts';

describe('bounds of regions', () => {
  it('are in order for every prompt', () => {
    const prompt = fc.tuple(
      fc.integer({ min: 1, max: 5000 }),
      fc.integer({ min: 0, max: 200 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
    );
    fc.assert(
      fc.property(prompt, ([promptTokens, questionTokens, place]) => {
        const { textFrom, evidenceFrom, evidenceTo, textTo } = regionBounds(
          promptTokens,
          questionTokens,
          place,
        );
        const order = [0, textFrom, evidenceFrom, evidenceTo, textTo, promptTokens];
        expect(order).toEqual([...order].sort((a, b) => a - b));
      }),
      { seed: 42 },
    );
  });

  it('put the evidence where it was found', () => {
    const at = (place: number) => regionBounds(6000, 30, place);
    const { places, tokens } = evidenceWindow(at(0));
    for (const place of [0, 17, places]) {
      const bounds = at(place / places);
      expect(bounds.evidenceFrom).toBe(startTokens + place);
      expect(bounds.evidenceTo - bounds.evidenceFrom).toBe(tokens);
      expect(isEvidence(bounds, bounds.evidenceFrom)).toBe(true);
      expect(isEvidence(bounds, bounds.evidenceTo)).toBe(false);
    }
    expect(placeInText(at(0), 5970)).toBe(1);
  });

  it('leave a short prompt without evidence', () => {
    const { evidenceFrom, evidenceTo } = regionBounds(200, 30, 0.5);
    expect(evidenceTo).toBe(evidenceFrom);
  });
});
