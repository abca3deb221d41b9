/** One experiment, one digest: twice in Node, in a worker thread of the built package, and in the page. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { CompareResult } from '../sim/result.ts';
import { replayExperiment } from '../traces/attention/replay.ts';
import { renderReport } from '../viz/report/render.ts';
import { openChromium, openPage } from './chromium.ts';
import { buildClient } from './client.ts';

const tiny = fileURLToPath(new URL('../traces/attention/fixtures/tiny.safetensors', import.meta.url));
const policies = ['full', 'full-offload', 'streaming-llm', 'snapkv', 'quest', 'ttkv', 'pariskv'];

const synthetic = {
  trace: {
    kind: 'synthetic',
    preset: 'qwen2.5-0.5b',
    spec: {
      preset: 'qwen2.5-0.5b',
      shape: { layers: 24, heads: 14, kvHeads: 2, headDim: 64, ropeTheta: 1_000_000 },
      promptTokens: 3000,
      steps: 4,
      seed: 3,
    },
  },
  model: 'qwen2.5-0.5b',
  hardware: 'a100-80-pcie',
  stack: 'flashinfer-graphs',
  policies: policies.map((name) => ({ label: name, name, config: {} })),
  contextTokens: 3000,
  steps: 4,
  batch: 2,
  dense: true,
  elementBytes: 2,
  layers: [2, 12],
  kvHeads: 'auto',
  seed: 3,
};

const inWorker = (experiment: unknown): Promise<string> =>
  new Promise((resolve, reject) => {
    const built = pathToFileURL(
      fileURLToPath(new URL('../dist/traces/attention/replay.js', import.meta.url)),
    ).href;
    const code = `import(${JSON.stringify(built)}).then(({ replayExperiment }) => {
      const { parentPort, workerData } = require('node:worker_threads');
      parentPort.postMessage(replayExperiment(workerData).result.digest);
    });`;
    const worker = new Worker(code, { eval: true, workerData: experiment });
    worker.once('message', (digest: string) => resolve(digest));
    worker.once('error', reject);
  });

describe('one experiment, one digest', () => {
  let folder = '';
  let result: CompareResult;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'kvtier-digest-'));
    result = replayExperiment(synthetic).result;
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('twice in Node', () => {
    expect(replayExperiment(synthetic).result).toEqual(result);
  });

  test('another seed, another digest', () => {
    const spec = { ...synthetic.trace.spec, seed: 4 };
    const other = { ...synthetic, seed: 4, trace: { ...synthetic.trace, spec } };
    expect(replayExperiment(other).result.digest).not.toBe(result.digest);
  });

  test('in a worker', async () => {
    expect(await inWorker(synthetic)).toBe(result.digest);
  });

  test('in the page', async () => {
    const file = join(folder, 'report.html');
    const run = replayExperiment(synthetic);
    const timelines = run.result.policies.map(({ policy }, at) => ({ policy, timeline: run.timelines[at] }));
    const client = await buildClient();
    writeFileSync(file, renderReport({ result: run.result, timelines, replay: { available: true }, client }));
    const browser = await openChromium();
    try {
      const page = await openPage(browser);
      await page.goto(pathToFileURL(file).href);
      await page.locator('.replay button').click();
      const verdict = page.locator('.replay output');
      await page.waitForFunction(() =>
        /^[✓✗]/.test(document.querySelector('.replay output')?.textContent ?? ''),
      );
      expect(await verdict.textContent()).toContain('✓');
    } finally {
      await browser.close();
    }
  });
});

test('a recorded trace replays from its bytes, and only from its own', () => {
  const traceBytes = readFileSync(tiny);
  expect(() =>
    replayExperiment(
      { ...synthetic, trace: { kind: 'file', name: 'tiny.safetensors', digest: 'other' } },
      { traceBytes },
    ),
  ).toThrow(/another file/);
  expect(() =>
    replayExperiment({ ...synthetic, trace: { kind: 'file', name: 'tiny.safetensors', digest: 'x' } }),
  ).toThrow(/needs this trace file/);
});
