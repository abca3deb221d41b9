/** Labels keep clear of each other; one without a free place is marked, and takes none from the others. */
import { expect, test } from 'vitest';
import { placeLabels } from './labels.ts';

const frame = { left: 0, right: 600, top: 0, bottom: 300 };
const widthPx = 60;

test('a point on its own has its label at its right, at the edge at its left', () => {
  const [middle, edge] = placeLabels(
    [
      { x: 300, y: 150, widthPx },
      { x: 590, y: 50, widthPx },
    ],
    frame,
  );
  expect(middle).toEqual({ x: 312, y: 150, anchor: 'start', isCrowded: false });
  expect(edge).toMatchObject({ anchor: 'end', isCrowded: false });
});

test('of many points in one place some labels stand apart, the others are crowded', () => {
  const points = Array.from({ length: 20 }, () => ({ x: 300, y: 150, widthPx }));
  const labels = placeLabels(points, frame);
  const shown = labels.filter(({ isCrowded }) => !isCrowded);
  expect(shown.length).toBeGreaterThan(3);
  expect(shown.length).toBeLessThan(20);
  const places = new Set(shown.map(({ x, y, anchor }) => `${x} ${y} ${anchor}`));
  expect(places.size).toBe(shown.length);
});
