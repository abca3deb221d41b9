/** The picture of an inspection in a real Chromium: silent, offline, right, usable by key, deaf to injected markup. */
import type { BrowserContextOptions, Page } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { createRandomTrace } from '../../sim/trace/random-trace.ts';
import { type OpenedPage, reportPages } from '../../test/report-pages.ts';
import { inspectTrace } from '../../traces/attention/inspect/inspect.ts';
import { type InspectionResult, inspectionResult } from '../../traces/attention/inspect/result.ts';
import { formatRatio } from '../app/format.ts';
import { renderInspectionPage } from './render-inspection.ts';
import type { Client } from './shell.ts';

const trace = createRandomTrace({
  shape: {
    layers: 6,
    heads: 6,
    kvHeads: 2,
    headDim: 8,
    promptTokens: 600,
    steps: 12,
    recordedLayers: [1, 3, 4],
  },
  seed: 3,
});
const origin = { kind: 'random' };
const inspection = inspectTrace({ trace, layers: 'all', steps: 6, seed: 1 });
const result = inspectionResult(inspection, {
  trace,
  name: trace.name,
  origin,
  provenance: { tool: 'x' },
  seed: 1,
  layers: 'all',
});

const { html, open: openReport } = reportPages('inspect', 'rect.cell');

const open = (shown: InspectionResult, options: BrowserContextOptions = {}, hash = ''): Promise<OpenedPage> =>
  openReport((client) => renderInspectionPage(shown, client), options, hash);

const captionOf = (page: Page, id: string): Promise<string | null> =>
  page.locator(`figure#${id} figcaption`).textContent();

describe('the page of an inspection', () => {
  it('opens from a file without errors, violations or requests, in both themes and on a phone', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1440, 390]) {
        const { page, troubles } = await open(result, { colorScheme, viewport: { width, height: 900 } });
        expect(await page.locator('main figure').count()).toBe(4);
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        expect(sideways).toBeLessThanOrEqual(0);
        expect(troubles).toEqual([]);
        await page.close();
      }
    }
  });

  it('allows its own script and style and nothing else', () => {
    const render = (client: Client): string => renderInspectionPage(result, client);
    expect(html(render)).toContain("default-src 'none'; script-src 'sha256-");
    expect(html(render)).not.toContain('unsafe');
    expect(html(render)).toBe(html(render));
  });

  it('says its digest, seed, notes and inputs, and gives every figure a finding and a table', async () => {
    const { page } = await open(result);
    const text = await page.locator('header.page').textContent();
    for (const part of ['600 prompt tokens', '6 query and 2 KV heads', ...result.notes, result.digest])
      expect(text).toContain(part);
    for (const id of ['heat', 'concentration', 'locality', 'ageing']) {
      expect((await captionOf(page, id))?.length).toBeGreaterThan(20);
      expect(await page.locator(`figure#${id} table`).count()).toBe(1);
    }
    await page.close();
  });

  it('has a cell a head, coloured by the chosen statistic', async () => {
    const { page, troubles } = await open(result);
    expect(await page.locator('rect.cell').count()).toBe(18);
    const fills = (): Promise<string[]> =>
      page.locator('rect.cell').evaluateAll((cells) => cells.map((cell) => getComputedStyle(cell).fill));
    const before = await fills();
    await page.locator('#heat select').selectOption('recent-64');
    await page.waitForFunction(() =>
      document.querySelector('#heat figcaption')?.textContent?.includes('last 64\u00a0tokens'),
    );
    expect(await fills()).not.toEqual(before);
    const values = result.layers.flatMap(({ heads }) => heads.map((head) => head.recentShare['64']));
    const shown = await page.locator('#heat tbody td').allTextContents();
    expect(shown).toEqual(values.map(formatRatio));
    expect(await captionOf(page, 'heat')).toContain(formatRatio(Math.max(...values)).replace(' ', '\u00a0'));
    expect(decodeURIComponent(page.url())).toContain('statistic=recent-64');
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('is walked by key; Enter draws the curve of a head', async () => {
    const { page, troubles } = await open(result, {}, '#layer=1&head=0&statistic=sink');
    expect(await page.locator('#heat select').inputValue()).toBe('sink');
    await page.locator('rect.cell[tabindex="0"]').focus();
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowDown');
    expect(await page.locator('#tip strong').textContent()).toBe('layer 3, head 1');
    await page.keyboard.press('Enter');
    await page.waitForFunction(() =>
      document.querySelector('#concentration .legend')?.textContent?.includes('layer 3, head 1'),
    );
    const last = await page.locator('#concentration tbody tr').first().locator('td').last().textContent();
    const { curveFractions } = result.experiment.definitions;
    const first = curveFractions.findIndex((fraction) => fraction * 600 >= 1);
    expect(last).toBe(formatRatio(result.layers[1].heads[1].curve[first]));
    await page.locator('#concentration .hit').focus();
    await page.keyboard.press('ArrowLeft');
    expect(await page.locator('#tip').textContent()).toContain('p10 to p90');
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('offers only what was measured', async () => {
    const lone = inspectTrace({ trace, layers: [3], steps: 1, seed: 1 });
    const { page, troubles } = await open(
      inspectionResult(lone, { trace, name: trace.name, origin, provenance: {}, seed: 1, layers: [3] }),
    );
    const offered = await page.locator('#heat option').allTextContents();
    expect(offered).toContain('sink share');
    expect(offered).not.toContain('next step: top 1 %');
    expect(await captionOf(page, 'locality')).toContain('nothing is known of locality');
    expect(await captionOf(page, 'ageing')).toBe('One step alone does not age.');
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('shows strings of a file as text', async () => {
    const evil = `"'><img src=x onerror="window.hacked=1"><script>window.hacked=1</script></script><!--`;
    const { page, troubles } = await open({
      ...result,
      notes: [evil],
      digest: evil,
      trace: { ...result.trace, name: evil, model: evil, provenance: { [evil]: evil } },
    });
    expect(await page.title()).toContain(evil);
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.locator('script').count()).toBe(2);
    expect(await page.evaluate(() => Reflect.has(window, 'hacked'))).toBe(false);
    expect(troubles).toEqual([]);
    await page.close();
  });
});
