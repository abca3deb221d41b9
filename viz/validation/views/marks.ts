/** One mark a case, the same in every picture: hue and shape by regime, a tip with what was predicted and measured. */
import { type Selection, symbol, symbolCircle, symbolSquare, symbolTriangle } from 'd3';
import { h } from '../../app/dom.ts';
import { formatBytes, formatNs } from '../../app/format.ts';
import type { TipLine } from '../../app/tip.ts';
import {
  errorOf,
  groupOf,
  REGIMES,
  regimeOf,
  signed,
  type ValidatedCase,
  type ValidationPage,
} from '../page.ts';

const SHAPES = [symbolCircle, symbolSquare, symbolTriangle] as const;
const MARK_AREA = 52;

const linesOf = (one: ValidatedCase): readonly TipLine[] => [
  ['measured', formatNs(one.measuredNs)],
  ['predicted', formatNs(one.predictedNs)],
  ['error', signed(errorOf(one))],
  ['bytes', formatBytes(one.measuredBytes)],
  ['layers run', String(one.layers)],
  ['floor', `${formatNs(one.floor.floorNs)}, measured ${one.floor.ratio.toFixed(2)} times`],
  ...(one.floor.worst === null ? [] : [['most above its own floor', one.floor.worst] as const]),
];

const titleOf = (one: ValidatedCase): string => `${one.policy}, ${groupOf(one)}`;

/** Draws the cases at their places; each can be reached by key. */
export const drawMarks = (
  parent: Selection<SVGGElement, undefined, null, undefined>,
  { tip }: ValidationPage,
  cases: readonly ValidatedCase[],
  place: (one: ValidatedCase) => readonly [x: number, y: number],
): void => {
  for (const one of cases) {
    const regime = REGIMES.indexOf(regimeOf(one));
    const [x, y] = place(one);
    parent
      .append('g')
      .attr('class', `series series-${regime}`)
      .append('path')
      .attr('class', 'symbol')
      .attr('d', symbol(SHAPES[regime], MARK_AREA)())
      .attr('transform', `translate(${x},${y})`)
      .attr('tabindex', 0)
      .attr('role', 'img')
      .attr('aria-label', `${titleOf(one)}: ${signed(errorOf(one))}`)
      .on('pointerenter focus', function () {
        tip.show(this, titleOf(one), linesOf(one));
      })
      .on('pointerleave blur', () => tip.hide());
  }
};

const keySymbol = (at: number): SVGSVGElement => {
  const name = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(name, 'svg');
  svg.setAttribute('class', `key-symbol series series-${at}`);
  svg.setAttribute('viewBox', '-6 -6 12 12');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(name, 'path');
  path.setAttribute('class', 'symbol');
  path.setAttribute('d', symbol(SHAPES[at], MARK_AREA)() ?? '');
  svg.append(path);
  return svg;
};

/** The regimes that occur. */
export const regimeLegend = (cases: readonly ValidatedCase[]): HTMLElement =>
  h(
    'ul',
    { class: 'legend' },
    ...REGIMES.flatMap((regime, at) =>
      cases.some((one) => regimeOf(one) === regime) ? [h('li', {}, keySymbol(at), regime)] : [],
    ),
  );
