/** The page of a validation in a real Chromium: silent, offline, complete, deaf to injected markup. */
import type { BrowserContextOptions } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { type OpenedPage, reportPages } from '../../test/report-pages.ts';
import type { ValidatedCase, ValidationResult } from '../validation/page.ts';
import { renderValidationPage } from './render-validation.ts';

const caseOf = (policy: string, measuredNs: number, ratio: number, h2d = 0, dram = 0): ValidatedCase => ({
  policy,
  model: 'm',
  context: 4096,
  batch: 1,
  budget: null,
  layers: 8,
  predictedNs: measuredNs * ratio,
  measuredNs,
  spreadNs: [measuredNs, measuredNs],
  predictedBytes: 100,
  measuredBytes: 101,
  bytes: { predicted: { hbm: 100, h2d, d2h: 0, dram }, measured: { hbm: 101, h2d, d2h: 0, dram } },
  outputError: 0.003,
  jaccard: null,
  floor: { floorNs: measuredNs / 1.2, ratio: 1.2, worst: 'attend' },
  standIns: policy === 'quest' ? [{ what: 'concat', count: 2 }] : [],
  kinds: [{ kind: 'attend', operations: 8, predictedNs: measuredNs * ratio, measuredNs }],
});

const result: ValidationResult = {
  experiment: { hardware: 'h100-sxm', stack: 'kvtier-kernels' },
  seed: 1,
  machine: {
    backend: 'cuda',
    name: 'Some GPU',
    driver: '1',
    runtime: '2',
    date: '2026-01-01',
    emulated: ['nvme is a file'],
  },
  cases: [
    caseOf('full', 1e6, 1.05),
    caseOf('quest', 4e5, 0.9, 50),
    caseOf('magicpig', 2e6, 1.4, 0, 10),
    caseOf('quest:tier=dram;pageTokens=32;budgetTokens=1024', 6.15e6, 1.01, 50),
  ],
  refused: [{ policy: 'kivi', context: 4096, batch: 1, reason: 'no kernel' }],
  summary: {
    n: 3,
    mape: 0.18,
    medianApe: 0.1,
    p95Ape: 0.37,
    bias: 0.11,
    kendallTau: 1,
    bytesMape: 0.01,
    noiseApe: 0.005,
    signAccuracy: 1,
  },
};

const { open: openReport } = reportPages('validation', '.symbol');

const open = (shown: ValidationResult, options: BrowserContextOptions = {}, hash = ''): Promise<OpenedPage> =>
  openReport((client) => renderValidationPage(shown, client), options, hash);

/** Letters of pictures that lie outside of them, where nobody sees them. */
const clippedLabels = (page: OpenedPage['page']): Promise<readonly string[]> =>
  page.evaluate(() =>
    [...document.querySelectorAll('svg text')].flatMap((text) => {
      const { left, right } = text.getBoundingClientRect();
      const frame = text.closest('svg')?.getBoundingClientRect();
      const isInside = frame !== undefined && left >= frame.left - 1 && right <= frame.right + 1;
      return isInside ? [] : [text.textContent ?? ''];
    }),
  );

describe('the page of a validation', () => {
  it('opens without errors or requests, in both themes and on a phone, with a finding and a table a figure', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      for (const width of [1440, 390]) {
        const { page, troubles } = await open(result, { colorScheme, viewport: { width, height: 900 } });
        for (const id of ['scatter', 'residuals', 'ranking', 'operations']) {
          expect((await page.locator(`figure#${id} figcaption`).textContent())?.length).toBeGreaterThan(20);
          expect(await page.locator(`figure#${id} table`).count()).toBe(1);
        }
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        expect(sideways).toBeLessThanOrEqual(0);
        expect(await clippedLabels(page)).toEqual([]);
        const labels = await page.locator('#ranking .row-label').allTextContents();
        expect(labels.filter((label) => !/ \d[\d.]* [µm]s$/.test(label))).toEqual([]);
        expect(troubles).toEqual([]);
        await page.close();
      }
    }
  });

  it('says what was emulated, stood in for and not run, and marks each case by its regime', async () => {
    const { page } = await open(result);
    const text = await page.locator('header.page').textContent();
    for (const part of [
      'Some GPU',
      'nvme is a file',
      'concat',
      'Not run: kivi, 4096 tokens, batch 1: no kernel',
    ])
      expect(text).toContain(part);
    expect(await page.locator('#scatter .plot .symbol').count()).toBe(4);
    const band = await page.locator('#scatter .tolerance').getAttribute('d');
    expect(band?.match(/[ML]/g)).toHaveLength(8);
    for (const [regime, cases] of [1, 2, 1].entries())
      expect(await page.locator(`#scatter .plot .series-${regime}`).count()).toBe(cases);
    await page.locator('#scatter .plot .symbol').first().focus();
    expect(await page.locator('#tip').textContent()).toContain('+5.0 %');
    await page.close();
  });

  it('shows strings of a file as text', async () => {
    const evil = `"'><img src=x onerror="window.hacked=1"><script>window.hacked=1</script></script><!--`;
    const { page, troubles } = await open({
      ...result,
      machine: { ...result.machine, name: evil },
      refused: [{ policy: evil, context: 1, batch: 1, reason: evil }],
    });
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.evaluate(() => Reflect.has(window, 'hacked'))).toBe(false);
    expect(troubles).toEqual([]);
    await page.close();
  });
});
