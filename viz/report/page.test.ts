/** The page in a real Chromium, opened from a file: silent, offline, correct, usable by key, deaf to injected markup. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { fixtureComparison } from '../../test/comparison.ts';
import { type OpenedPage, reportPages } from '../../test/report-pages.ts';
import { flowsOf } from '../app/analysis.ts';
import { type ReportInput, renderReport } from './render.ts';
import type { Client } from './shell.ts';

const comparison = fixtureComparison(8, 3);
const { result, timelines } = comparison;
const { blank, folder, open: openReport } = reportPages('client', '.timeline-plot .op');

const render =
  (input: Partial<ReportInput>) =>
  (client: Client): string =>
    renderReport({ ...comparison, replay: { available: true }, client, ...input });

const open = (
  input: Partial<ReportInput>,
  options: BrowserContextOptions = {},
  hash = '',
): Promise<OpenedPage> => openReport(render(input), options, hash);

describe('the page', () => {
  it('opens from a file without errors, violations or requests, in both themes and on a phone', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1440, 390]) {
        const { page, troubles } = await open({}, { colorScheme, viewport: { width, height: 900 } });
        expect(await page.locator('main figure').count()).toBe(4);
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        expect(sideways).toBeLessThanOrEqual(0);
        expect(troubles).toEqual([]);
        await page.close();
      }
    }
  });

  it('follows the color scheme', async () => {
    const grounds: string[] = [];
    for (const colorScheme of ['light', 'dark'] as const) {
      const { page } = await open({}, { colorScheme });
      grounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
      await page.close();
    }
    expect(grounds).toEqual(['rgb(246, 245, 241)', 'rgb(18, 21, 25)']);
  });

  it('says its digest, seed, notes and every input', async () => {
    const { page } = await open({});
    const header = page.locator('header.page');
    const text = await header.textContent();
    for (const part of [
      'llama-3.1-8b on h100-sxm',
      '131,072 tokens of context',
      'seed 42',
      ...result.notes,
      result.digest,
    ]) {
      expect(text).toContain(part);
    }
    await page.close();
  });

  it('gives every figure a heading, a finding and a table for screen readers', async () => {
    const { page } = await open({});
    for (const id of ['tradeoff', 'flows', 'comparison', 'timeline']) {
      const figure = page.locator(`figure#${id}`);
      expect((await figure.locator('figcaption').textContent())?.length).toBeGreaterThan(20);
      expect(await figure.locator('table').count()).toBeGreaterThan(0);
    }
    await page.close();
  });

  it('says so when the browser cannot inflate its data', async () => {
    const { page, url } = await blank(render({}));
    await page.addInitScript(() => Reflect.deleteProperty(window, 'DecompressionStream'));
    await page.goto(url);
    expect(await page.locator('[role=alert]').textContent()).toMatch(/DecompressionStream/);
    await page.close();
  });
});

describe('the comparison table', () => {
  it('has a row a policy, selects by key and sorts by any column', async () => {
    const { page, troubles } = await open({});
    const rows = page.locator('.comparison tbody tr');
    expect(await rows.count()).toBe(result.policies.length);
    await page.locator('.comparison input:checked').press('ArrowDown');
    await page.waitForFunction(
      () => document.querySelector<HTMLSelectElement>('#flows select')?.value === 'wg-kv',
    );
    const button = page.locator('.comparison thead button', { hasText: 'Step time' });
    await button.focus();
    expect(await page.locator('#tip').textContent()).toContain('produce one token');
    await button.press('Enter');
    const names = (): Promise<string[]> => page.locator('.comparison tbody th label').allTextContents();
    const byTime = [...result.policies]
      .sort((a, b) => a.stepNs.mean - b.stepNs.mean)
      .map(({ policy }) => policy);
    expect(await names()).toEqual(byTime);
    await button.press('Enter');
    expect(await names()).toEqual(byTime.toReversed());
    expect(await page.locator('.comparison th[aria-sort=descending]').count()).toBe(1);
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('fits a window of 1300 px, and shows all measures on request', async () => {
    const { page } = await open({});
    await page.setViewportSize({ width: 1300, height: 900 });
    const spill = (): Promise<number> =>
      page.locator('#comparison .scroll').evaluate((box) => box.scrollWidth - box.clientWidth);
    const shown = (): Promise<number> => page.locator('.comparison thead th:visible').count();
    expect(await spill()).toBe(0);
    const few = await shown();
    await page.locator('#comparison .switch input').check();
    expect(await shown()).toBe(few + 6);
    await page.close();
  });

  it('says which policy does not fit, and by how much', async () => {
    const { page } = await open({});
    expect(await page.locator('.comparison tr.misfit').textContent()).toContain('✗ noHBM short by 6.31 GB');
    await page.close();
  });
});

describe('the flow picture', () => {
  it('draws widths in proportion to bytes, on one scale for all policies', async () => {
    const { page } = await open({});
    const pxPerByte = new Set<string>();
    for (const policy of result.policies) {
      await page.locator('#flows select').selectOption(policy.policy);
      const flows = flowsOf(policy).filter(({ bytes }) => bytes > 0);
      await page.waitForFunction(
        ({ name, count }) =>
          document.querySelector('#flows figcaption')?.textContent?.includes(`, ${name} `) &&
          document.querySelectorAll('#flows .ribbon').length === count,
        { name: policy.policy, count: flows.length },
      );
      const drawn = await page.locator('#flows .ribbon').evaluateAll((paths) =>
        paths.map((path) => ({
          bytes: Number(path.getAttribute('data-bytes')),
          widthPx: Number(path.getAttribute('stroke-width')),
        })),
      );
      expect(drawn.map(({ bytes }) => bytes)).toEqual(flows.map(({ bytes }) => bytes));
      for (const { bytes, widthPx } of drawn)
        if (widthPx > 1.5) pxPerByte.add((widthPx / bytes).toExponential(6));
    }
    expect(pxPerByte.size).toBe(1);
    await page.close();
  });
});

describe('the scatter', () => {
  it('has a point a policy; walking by key highlights, Enter selects everywhere', async () => {
    const { page } = await open({});
    expect(await page.locator('g.point').count()).toBe(result.policies.length);
    await page.locator('g.point[tabindex="0"]').focus();
    await page.keyboard.press('ArrowRight');
    const focused = await page.evaluate(() => document.activeElement?.getAttribute('data-policy'));
    expect(focused).not.toBeNull();
    expect(await page.locator('#tip').textContent()).toContain('mass recall');
    await page.keyboard.press('Enter');
    await page.waitForFunction(
      (name) => document.querySelector('.comparison tr.selected label')?.textContent === name,
      focused,
    );
    expect(decodeURIComponent(page.url())).toContain(`policy=${focused}`);
    await page.close();
  });
});

describe('the timeline', () => {
  const ttkv = timelines.find(({ policy }) => policy === 'ttkv') ?? timelines[0];
  const stepRows = ttkv.timeline.step.filter((step) => step === 1).length;

  const drawnRows = (page: Page): Promise<number> =>
    page
      .locator('.timeline-plot .op')
      .evaluateAll((ops) => ops.reduce((sum, op) => sum + Number(op.getAttribute('data-rows')), 0));

  it('draws every operation of the step in the address', async () => {
    const { page } = await open({}, {}, '#policy=ttkv&step=1');
    expect(await page.locator('#timeline figcaption').textContent()).toMatch(/^Step 1 of ttkv/);
    expect(await drawnRows(page)).toBe(stepRows);
    await page.close();
  });

  it('zooms, pans and walks by key, and tells what is under the focus', async () => {
    const { page, troubles } = await open({}, {}, '#policy=ttkv&step=1');
    const svg = page.locator('.timeline-plot');
    await svg.focus();
    for (let i = 0; i < 8; i++) await page.keyboard.press('w');
    const close = await drawnRows(page);
    expect(close).toBeLessThan(stepRows);
    const firstTick = (): Promise<string | null> => svg.locator('.axis text').first().textContent();
    const before = await firstTick();
    await page.keyboard.press('d');
    expect(await firstTick()).not.toBe(before);
    await page.keyboard.press('0');
    expect(await drawnRows(page)).toBe(stepRows);
    await page.keyboard.press('.');
    await page.keyboard.press('.');
    const tip = page.locator('#tip');
    expect(await tip.textContent()).toMatch(/layer0.*duration/);
    expect(await page.locator('#timeline [aria-live]').textContent()).toMatch(/layer 0/);
    await page.keyboard.press('f');
    expect(await drawnRows(page)).toBeLessThan(stepRows);
    await page.keyboard.press('Escape');
    expect(await tip.isHidden()).toBe(true);
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('shows layer, bytes and duration under the pointer, and zooms with the wheel once clicked', async () => {
    const { page } = await open({}, {}, '#policy=ttkv&step=1');
    const fetch = page.locator('.timeline-plot .op[data-kind=fetch]').nth(2);
    await fetch.scrollIntoViewIfNeeded();
    await fetch.hover();
    const text = await page.locator('#tip').textContent();
    expect(text).toMatch(/^fetchlayer2streamh2dduration1\.19 ms.*bytes62\.0 MBrate51\.9 GB\/s$/);
    const whole = await drawnRows(page);
    await page.mouse.wheel(0, -900);
    expect(await drawnRows(page)).toBe(whole);
    await fetch.click();
    await page.mouse.wheel(0, -900);
    await page.waitForFunction(
      (count) => document.querySelectorAll('.timeline-plot .op').length < count,
      whole,
    );
    await page.close();
  });

  it('is saved as a Chrome trace', async () => {
    const { page, troubles } = await open({});
    const saved = page.waitForEvent('download');
    await page.locator('button', { hasText: 'Perfetto' }).click();
    const path = join(folder, 'timeline.json');
    await (await saved).saveAs(path);
    const trace = JSON.parse(readFileSync(path, 'utf8'));
    const rows = timelines.reduce((sum, { timeline }) => sum + timeline.startNs.length, 0);
    expect(
      trace.traceEvents.filter((event: { ph: string; tid: number }) => event.ph === 'X' && event.tid > 0),
    ).toHaveLength(rows);
    expect(trace.otherData.digest).toBe(result.digest);
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('says so when a policy has none', async () => {
    const without = timelines.filter(({ policy }) => policy !== 'full');
    const { page } = await open({ timelines: without });
    await page.locator('#timeline select').selectOption('full');
    await page.waitForFunction(
      () =>
        document.querySelector('#timeline figcaption')?.textContent === 'No timeline was recorded for full.',
    );
    await page.close();
  });
});

describe('running it again', () => {
  it('offers the run, asks for the trace first where one is needed, and ends with a verdict', async () => {
    const { page, troubles } = await open({ replay: { available: true, needsTrace: 'sample.safetensors' } });
    const button = page.locator('.replay button');
    expect(await button.isDisabled()).toBe(true);
    await page.locator('.replay input[type=file]').setInputFiles({
      name: 'sample.safetensors',
      mimeType: 'application/octet-stream',
      buffer: Buffer.from([1]),
    });
    await button.click();
    await page.waitForFunction(() =>
      /^[✓✗]/.test(document.querySelector('.replay output')?.textContent ?? ''),
    );
    expect(await button.isEnabled()).toBe(true);
    expect(troubles).toEqual([]);
    await page.close();
  });

  it('gives the reason when it cannot', async () => {
    const { page } = await open({ replay: { available: false, reason: 'the policy is a file of the user' } });
    expect(await page.locator('.replay').textContent()).toBe(
      'Can not be re-run in this page: the policy is a file of the user.',
    );
    await page.close();
  });
});

describe('strings from data', () => {
  const evil = `"'><img src=x onerror="window.hacked=1"><script>window.hacked=1</script></script><!--`;

  it('are text wherever they stand', async () => {
    const policies = result.policies.map((policy, i) =>
      i === 0 ? { ...policy, policy: evil, inputs: evil, bound: { resource: evil, share: 0.5 } } : policy,
    );
    const renamed = timelines.map((item, i) =>
      i === 0
        ? {
            policy: evil,
            timeline: {
              ...item.timeline,
              kinds: item.timeline.kinds.map((kind) => (kind === 'attend' ? evil : kind)),
            },
          }
        : item,
    );
    const { page, troubles } = await open({
      result: {
        ...result,
        policies,
        notes: [evil],
        digest: evil,
        experiment: { model: evil, hardware: evil, [evil]: evil },
      },
      timelines: renamed,
      replay: { available: false, reason: evil },
    });
    await page.locator('#flows select').selectOption(evil);
    await page.waitForFunction(
      (name) => document.querySelector('#timeline figcaption')?.textContent?.includes(name),
      evil,
    );
    await page.locator('g.point').first().focus();
    expect(await page.locator('#tip strong').textContent()).toBe(evil);
    expect(await page.title()).toContain(evil);
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.locator('script').count()).toBe(2);
    expect(await page.evaluate(() => Reflect.has(window, 'hacked'))).toBe(false);
    expect(troubles).toEqual([]);
    await page.close();
  });
});
