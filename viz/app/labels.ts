/** Places point labels greedily: beside its point where it hides neither a point nor a label already placed. */
export interface LabelledPoint {
  readonly x: number;
  readonly y: number;
  readonly widthPx: number;
}

interface PlacedLabel {
  readonly x: number;
  readonly y: number;
  readonly anchor: 'start' | 'middle' | 'end';
}

export interface Label extends PlacedLabel {
  /** No place is free of other labels: to be shown only while its point is looked at. */
  readonly isCrowded: boolean;
}

interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

const lineHalfPx = 8;
const pointHalfPx = 7;

const candidates = ({ x, y }: LabelledPoint): readonly PlacedLabel[] => [
  { x: x + 12, y, anchor: 'start' },
  { x: x - 12, y, anchor: 'end' },
  { x, y: y - 18, anchor: 'middle' },
  { x, y: y + 18, anchor: 'middle' },
  { x: x + 9, y: y - 15, anchor: 'start' },
  { x: x + 9, y: y + 15, anchor: 'start' },
  { x: x - 9, y: y - 15, anchor: 'end' },
  { x: x - 9, y: y + 15, anchor: 'end' },
  { x: x + 9, y: y + 30, anchor: 'start' },
  { x: x - 9, y: y + 30, anchor: 'end' },
];

const boxOf = ({ x, y, anchor }: PlacedLabel, widthPx: number): Box => {
  const left = anchor === 'start' ? x : anchor === 'end' ? x - widthPx : x - widthPx / 2;
  return { left, right: left + widthPx, top: y - lineHalfPx, bottom: y + lineHalfPx };
};

const overlapPx2 = (a: Box, b: Box): number =>
  Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left)) *
  Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));

const outsidePx2 = (box: Box, frame: Box): number =>
  (Math.max(0, frame.left - box.left) + Math.max(0, box.right - frame.right)) * 2 * lineHalfPx +
  (Math.max(0, frame.top - box.top) + Math.max(0, box.bottom - frame.bottom)) * (box.right - box.left);

/** One label a point, in the points' order; the least bad place when none is free. A crowded one takes no room. */
export const placeLabels = (points: readonly LabelledPoint[], frame: Box): readonly Label[] => {
  const dots = points.map(({ x, y }) => ({
    left: x - pointHalfPx,
    right: x + pointHalfPx,
    top: y - pointHalfPx,
    bottom: y + pointHalfPx,
  }));
  const taken: Box[] = [];
  return points.map((point) => {
    let best = candidates(point)[0];
    let bestCost = Number.POSITIVE_INFINITY;
    for (const candidate of candidates(point)) {
      const box = boxOf(candidate, point.widthPx);
      const cost =
        [...dots, ...taken].reduce((sum, other) => sum + overlapPx2(box, other), 0) +
        4 * outsidePx2(box, frame);
      if (cost >= bestCost) continue;
      best = candidate;
      bestCost = cost;
    }
    const box = boxOf(best, point.widthPx);
    const isCrowded = taken.some((other) => overlapPx2(box, other) > 0);
    if (!isCrowded) taken.push(box);
    return { ...best, isCrowded };
  });
};
