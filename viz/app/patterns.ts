/** Fills of operation kinds: one hue a family (Okabe–Ito), told apart inside it by texture, never by hue alone. */
import { create } from 'd3';

type Texture = 'plain' | 'rising' | 'falling' | 'dots' | 'rails' | 'cross';

interface Fill {
  /** Custom property of the style sheet that holds the hue for the theme in use. */
  readonly hue: string;
  readonly texture: Texture;
}

const fills: Readonly<Record<string, Fill>> = {
  dense: { hue: '--hue-grey', texture: 'plain' },
  attend: { hue: '--hue-blue', texture: 'plain' },
  merge: { hue: '--hue-blue', texture: 'dots' },
  append: { hue: '--hue-sky', texture: 'rails' },
  score: { hue: '--hue-orange', texture: 'plain' },
  select: { hue: '--hue-orange', texture: 'rising' },
  fetch: { hue: '--hue-green', texture: 'plain' },
  spill: { hue: '--hue-vermillion', texture: 'falling' },
  decode: { hue: '--hue-purple', texture: 'plain' },
  encode: { hue: '--hue-purple', texture: 'cross' },
  wait: { hue: '--hue-wait', texture: 'rising' },
};

const other: Fill = { hue: '--hue-grey', texture: 'cross' };

const strokes: Readonly<Record<Texture, string>> = {
  plain: '',
  rising: 'M-1,1 l2,-2 M0,6 l6,-6 M5,7 l2,-2',
  falling: 'M-1,5 l2,2 M0,0 l6,6 M5,-1 l2,2',
  dots: 'M1.5,1.5 h1.4 M4.5,4.5 h1.4',
  rails: 'M0,3 h6',
  cross: 'M0,3 h6 M3,0 v6',
};

/** What `fill` or `stroke` of a kind's shapes is; unknown kinds share one. */
export const kindFill = (kind: string): string => `url(#kind-${kind in fills ? kind : 'other'})`;

/** One invisible svg with all pattern definitions; must be in the document, and not `display: none`. */
export const patternSheet = (): SVGSVGElement | null => {
  const svg = create('svg')
    .attr('class', 'patterns')
    .attr('width', 0)
    .attr('height', 0)
    .attr('aria-hidden', 'true');
  const defs = svg.append('defs');
  const add = (id: string, hue: string, texture: Texture, sizePx: number): void => {
    const pattern = defs
      .append('pattern')
      .attr('id', id)
      .attr('patternUnits', 'userSpaceOnUse')
      .attr('width', 6)
      .attr('height', 6)
      .attr('patternTransform', `scale(${sizePx})`);
    pattern.append('rect').attr('width', 6).attr('height', 6).style('fill', `var(${hue})`);
    if (texture === 'plain') return;
    pattern.append('path').attr('class', 'texture').attr('d', strokes[texture]);
  };
  for (const [kind, { hue, texture }] of Object.entries(fills)) add(`kind-${kind}`, hue, texture, 1);
  add('kind-other', other.hue, other.texture, 1);
  for (const [tier, hue] of [
    ['dram', '--tier-dram'],
    ['hbm', '--tier-hbm'],
    ['compute', '--tier-compute'],
  ]) {
    add(`outward-${tier}`, hue, 'falling', 1.3);
  }
  return svg.node();
};
