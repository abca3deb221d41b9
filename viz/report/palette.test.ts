/** Hues that carry meaning keep a contrast of 3:1 against their background in both themes, text keeps 4.5:1 (WCAG 2.2). */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const css = readFileSync(new URL('../app/style/page.css', import.meta.url), 'utf8');

const themes = ['light', 'dark'] as const;
type Theme = (typeof themes)[number];

const colour = (name: string, theme: Theme): string => {
  const pair = new RegExp(`${name}: light-dark\\((#[0-9a-f]{6})\\w*, (#[0-9a-f]{6})`).exec(css);
  if (pair === null) throw new Error(`page.css has no light-dark() pair ${name}`);
  return theme === 'light' ? pair[1] : pair[2];
};

/** Relative luminance of sRGB, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance */
const luminance = (hex: string): number => {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const channel = Number.parseInt(hex.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

const contrast = (a: string, b: string): number => {
  const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
  return (light + 0.05) / (dark + 0.05);
};

const hues = ['grey', 'blue', 'sky', 'orange', 'green', 'vermillion', 'purple'].map((hue) => `--hue-${hue}`);
const marks = [...hues, '--tier-dram', '--tier-hbm', '--tier-compute', '--accent', '--quiet', '--bar'];

describe.each(themes)('the %s theme', (theme) => {
  it.each(marks)('shows %s on the figures', (name) => {
    expect(contrast(colour(name, theme), colour('--surface', theme))).toBeGreaterThanOrEqual(3);
  });

  it.each(hues)('shows %s on a lane of the timeline', (name) => {
    expect(contrast(colour(name, theme), colour('--lane', theme))).toBeGreaterThanOrEqual(3);
  });

  it.each(['--ink', '--quiet', '--good', '--bad'])('keeps text in %s readable', (name) => {
    for (const ground of ['--surface', '--paper', '--lane', '--accent-soft']) {
      expect(contrast(colour(name, theme), colour(ground, theme))).toBeGreaterThanOrEqual(4.5);
    }
  });
});
