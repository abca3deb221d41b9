/**
 * Lays out the flow picture: tiers as columns from far to near (remote, nvme, dram, hbm, compute), ribbons between
 * them with a width proportional to bytes. Flows towards compute stack on top, flows away from it below.
 * Pure geometry in CSS pixels, no DOM. The idea of ports stacked along bars is that of Sankey diagrams at large.
 */
import { linkHorizontal } from 'd3';
import type { Flow } from './analysis.ts';

const columnOrder = ['remote', 'nvme', 'dram', 'hbm', 'compute'];

export interface SankeyNode {
  readonly name: string;
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface SankeyRibbon extends Flow {
  /** Exactly bytes × pxPerByte; may be far below a pixel. */
  readonly widthPx: number;
  /** True when the flow goes towards compute. */
  readonly inward: boolean;
  /** Centre line, to be stroked with `widthPx`. */
  readonly path: string;
  readonly middle: readonly [x: number, y: number];
}

export interface SankeyBox {
  readonly width: number;
  readonly height: number;
  /** Room above the ports for names, below for resident bytes. */
  readonly margin: {
    readonly top: number;
    readonly bottom: number;
    readonly left: number;
    readonly right: number;
  };
}

export interface SankeyLayout {
  readonly nodes: readonly SankeyNode[];
  readonly ribbons: readonly SankeyRibbon[];
}

const nodeWidthPx = 14;
const portGapPx = 18;
const minNodePx = 30;

/** Tiers that this file does not know stand farthest from compute (-1). */
const rank = (name: string): number => columnOrder.indexOf(name);

const namesOf = (flows: readonly Flow[]): readonly string[] => [
  ...new Set(flows.flatMap(({ from, to }) => [from, to])),
];

export const isInward = ({ from, to }: Pick<Flow, 'from' | 'to'>): boolean => rank(to) > rank(from);

/** Flows that touch one side of a node, in stacking order: inward first; far-reaching before near, weights last. */
const sideFlows = (flows: readonly Flow[], name: string, side: 'left' | 'right'): readonly Flow[] =>
  flows
    .filter((flow) => {
      const leaves = flow.from === name;
      if (!leaves && flow.to !== name) return false;
      return (leaves === isInward(flow)) === (side === 'right');
    })
    .sort(
      (a, b) =>
        Number(isInward(b)) - Number(isInward(a)) ||
        span(b) - span(a) ||
        Number(a.what === 'weights') - Number(b.what === 'weights'),
    );

const span = (flow: Flow): number => Math.abs(rank(flow.to) - rank(flow.from));

const stackPx = (flows: readonly Flow[], pxPerByte: number): number =>
  flows.reduce((sum, flow) => sum + flow.bytes * pxPerByte, 0) + Math.max(0, flows.length - 1) * portGapPx;

/** The largest scale at which every stack of ports of every given picture fits `box`; 0 when nothing flows. */
export const sankeyScale = (pictures: readonly (readonly Flow[])[], box: SankeyBox): number => {
  const roomPx = box.height - box.margin.top - box.margin.bottom;
  let scale = Number.POSITIVE_INFINITY;
  for (const flows of pictures) {
    for (const name of namesOf(flows)) {
      for (const side of ['left', 'right'] as const) {
        const stack = sideFlows(flows, name, side);
        const sizeBytes = stack.reduce((sum, flow) => sum + flow.bytes, 0);
        if (sizeBytes > 0) scale = Math.min(scale, (roomPx - (stack.length - 1) * portGapPx) / sizeBytes);
      }
    }
  }
  return Number.isFinite(scale) ? scale : 0;
};

/** Nodes and ribbons of one picture; `columns` are the tiers to show even where nothing flows. */
export const layoutSankey = (
  flows: readonly Flow[],
  columns: readonly string[],
  pxPerByte: number,
  box: SankeyBox,
): SankeyLayout => {
  const names = [...new Set([...columns, ...namesOf(flows)])].sort((a, b) => rank(a) - rank(b));
  const firstPx = box.margin.left;
  const stridePx = (box.width - firstPx - box.margin.right - nodeWidthPx) / Math.max(1, names.length - 1);
  const middlePx = (box.margin.top + box.height - box.margin.bottom) / 2;
  const portY = new Map<string, number>();
  const nodes = names.map((name, column): SankeyNode => {
    const sides = (['left', 'right'] as const).map((side) => ({ side, stack: sideFlows(flows, name, side) }));
    const height = Math.max(minNodePx, ...sides.map(({ stack }) => stackPx(stack, pxPerByte)));
    for (const { side, stack } of sides) {
      let y = middlePx - stackPx(stack, pxPerByte) / 2;
      for (const flow of stack) {
        const widthPx = flow.bytes * pxPerByte;
        portY.set(portKey(flow, name, side), y + widthPx / 2);
        y += widthPx + portGapPx;
      }
    }
    return { name, x: firstPx + column * stridePx, y: middlePx - height / 2, width: nodeWidthPx, height };
  });
  return { nodes, ribbons: flows.map((flow) => ribbonOf(flow, nodes, portY, pxPerByte)) };
};

const portKey = (flow: Flow, name: string, side: 'left' | 'right'): string =>
  `${flow.what}:${flow.from}>${flow.to}@${name}:${side}`;

const ribbonOf = (
  flow: Flow,
  nodes: readonly SankeyNode[],
  portY: ReadonlyMap<string, number>,
  pxPerByte: number,
): SankeyRibbon => {
  const inward = isInward(flow);
  const end = (name: string, side: 'left' | 'right'): [number, number] => {
    const node = nodes.find((candidate) => candidate.name === name);
    const x = node === undefined ? 0 : side === 'right' ? node.x + node.width : node.x;
    return [x, portY.get(portKey(flow, name, side)) ?? 0];
  };
  const source = end(flow.from, inward ? 'right' : 'left');
  const target = end(flow.to, inward ? 'left' : 'right');
  return {
    ...flow,
    inward,
    widthPx: flow.bytes * pxPerByte,
    path: linkHorizontal()({ source, target }) ?? '',
    middle: [(source[0] + target[0]) / 2, (source[1] + target[1]) / 2],
  };
};
