/** Tables go by what predicts: a size that says nothing, or the same as another, is left out. */
import { describe, expect, it } from 'vitest';
import { chooseAxes } from './choose-axes.ts';
import type { Shown } from './grid.ts';

const shownBy = (logShare: (rows: number, bytes: number) => number): readonly Shown[] =>
  [1, 2, 4, 8, 16].flatMap((rows) =>
    [1, 2, 4, 8, 16, 32].map((kilobytes) => ({
      sizes: { rows, bytes: 1024 * kilobytes, rowBytes: 512 * kilobytes, parts: 1 },
      logShare: logShare(rows, kilobytes),
    })),
  );

const namesOf = (shown: readonly Shown[]): readonly string[] =>
  chooseAxes(
    ['rows', 'bytes', 'rowBytes', 'parts'],
    shown,
    shown.map(({ sizes }) => sizes),
  )
    .map(({ of }) => of)
    .sort();

describe('chooseAxes', () => {
  it('takes the size that shares follow, and not another that goes with it', () => {
    expect(namesOf(shownBy((_, kilobytes) => Math.log2(kilobytes) / 3))).toEqual(['bytes']);
  });

  it('takes two that only tell something together', () => {
    expect(namesOf(shownBy((rows, kilobytes) => (rows > 2 === kilobytes > 4 ? 0.5 : -0.5)))).toEqual([
      'bytes',
      'rows',
    ]);
  });

  it('takes none but bytes where shares are all the same', () => {
    expect(namesOf(shownBy(() => 0.25))).toEqual(['bytes']);
  });
});
