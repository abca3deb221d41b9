/** What stays the same: from step to step, from head to head of a group, from the start to the end; by layer. */
import {
  axisBottom,
  line,
  type Symbol as Shape,
  type SymbolType,
  scalePoint,
  symbol,
  symbolCircle,
  symbolDiamond,
  symbolSquare,
  symbolTriangle,
} from 'd3';
import type { HeadStatistics } from '../../../traces/attention/inspect/statistics.ts';
import { axisAt, h, hiddenTable, onWidth, plotOf, type SvgSelection, svgRoot } from '../../app/dom.ts';
import { formatRatio } from '../../app/format.ts';
import type { Frame, View } from '../../app/view.ts';
import type { InspectPage } from '../page.ts';
import { localityFinding } from '../words.ts';
import { axisTitle, drawShareAxis, height, margin, spread } from './chart.ts';

interface Series {
  readonly name: string;
  readonly meaning: string;
  readonly mark: SymbolType;
  readonly of: (mean: HeadStatistics) => number | null;
}

const SERIES: readonly Series[] = [
  {
    name: 'blocks reused',
    meaning: 'selected 16-token blocks that the step before selected too',
    mark: symbolCircle,
    of: (mean) => mean.locality.reuse?.['1'] ?? null,
  },
  {
    name: 'next step',
    meaning: 'Jaccard index of the top 1 % of successive steps',
    mark: symbolSquare,
    of: (mean) => mean.locality.jaccardTopFraction,
  },
  {
    name: 'group',
    meaning: "attention in common with the KV head's other query heads",
    mark: symbolDiamond,
    of: (mean) => mean.agreement?.massOverlap ?? null,
  },
  {
    name: 'from step 0',
    meaning: "attention that step 0's top 1 % still catches at the end, of what the best set would",
    mark: symbolTriangle,
    of: (mean) => mean.drift.massRecall,
  },
];

/** Room at the right for the names of the lines. */
const namesPx = 122;
const tickRoomPx = 22;

interface Value {
  readonly layer: number;
  readonly value: number;
}

const valuesOf = ({ result }: InspectPage, { of }: Series): Value[] =>
  result.layers.flatMap(({ layer, mean }) => {
    const value = of(mean);
    return value === null ? [] : [{ layer, value }];
  });

const draw = (svg: SvgSelection, page: InspectPage, width: number): void => {
  svg.selectAll('*').remove();
  svg.attr('width', width).attr('height', height);
  const layers = page.result.layers.map(({ layer }) => layer);
  const rightPx = width - namesPx;
  const x = scalePoint<number>()
    .domain(layers)
    .range([margin.left + 10, rightPx - 10]);
  const y = drawShareAxis(svg, width, namesPx);
  const every = Math.max(1, Math.ceil(tickRoomPx / Math.max(1, x.step())));
  axisAt(svg, 0, height - margin.bottom).call(
    axisBottom(x)
      .tickValues(layers.filter((_, at) => at % every === 0))
      .tickSizeOuter(0),
  );
  axisTitle(svg, 'layer', rightPx, height - 8, 'end');
  axisTitle(svg, 'share that stays · up is steadier', 0, 12, 'start');
  const known = SERIES.map((series, at) => ({ series, at, values: valuesOf(page, series) })).filter(
    ({ values }) => values.length > 0,
  );
  const labels = spread(
    known.map(({ values }) => y(values[values.length - 1].value)),
    15,
    height - margin.bottom,
  );
  for (const [place, { series, at, values }] of known.entries()) {
    const group = svg.append('g').attr('class', `series series-${at}`);
    const shape: Shape<unknown, unknown> = symbol(series.mark, 46);
    group
      .append('path')
      .attr('class', 'curve')
      .attr(
        'd',
        line<Value>(
          (d) => x(d.layer) ?? 0,
          (d) => y(d.value),
        )(values),
      );
    group
      .selectAll<SVGPathElement, Value>('path.mark')
      .data(values)
      .join('path')
      .attr('class', 'mark')
      .attr('d', () => shape(null))
      .attr('transform', (d) => `translate(${x(d.layer) ?? 0},${y(d.value)})`)
      .on('pointerenter', function (_, d) {
        page.tip.show(this, `layer ${d.layer}: ${series.name}`, [[series.meaning, formatRatio(d.value)]]);
      })
      .on('pointerleave', () => page.tip.hide());
    group
      .append('path')
      .attr('class', 'mark')
      .attr('d', shape(null))
      .attr('transform', `translate(${rightPx + 12},${labels[place]})`);
    svg
      .append('text')
      .attr('class', 'series-label')
      .attr('aria-hidden', 'true')
      .attr('x', rightPx + 22)
      .attr('y', labels[place] + 4)
      .text(series.name);
  }
};

const mount = ({ caption, body }: Frame, page: InspectPage): void => {
  caption.textContent = localityFinding(page.result);
  const svg = svgRoot('locality-plot', 'Locality by layer');
  const plot = plotOf(svg);
  const known = SERIES.filter((series) => valuesOf(page, series).length > 0);
  const legend = h(
    'p',
    { class: 'note' },
    `${known.map(({ name, meaning }) => `${name}: ${meaning}`).join('. ')}.`,
  );
  const table = hiddenTable(
    'Locality by layer',
    ['Layer', ...known.map(({ name }) => name)],
    page.result.layers.map(({ layer, mean }) => [
      String(layer),
      ...known.map(({ of }) => {
        const value = of(mean);
        return value === null ? 'not measured' : formatRatio(value);
      }),
    ]),
  );
  body.append(plot, legend, table);
  onWidth(plot, (width) => draw(svg, page, width));
};

export const locality = {
  id: 'locality',
  question: 'What can be kept from step to step?',
  mount,
} satisfies View<InspectPage>;
