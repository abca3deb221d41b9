/**
 * Report pages in a real Chromium, for their tests: written to a file, opened from it, watched for anything that a
 * silent offline page must not do. Call it once at the top of a test file: it starts and closes the browser.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, beforeAll } from 'vitest';
import type { Client, ClientName } from '../viz/report/shell.ts';
import { openChromium, openPage, openTimeoutMs } from './chromium.ts';
import { buildClient } from './client.ts';

export interface OpenedPage {
  readonly page: Page;
  /** Console warnings and errors, uncaught exceptions, CSP violations, requests beyond the file: must stay empty. */
  readonly troubles: string[];
}

type Render = (client: Client) => string;

export interface ReportPages {
  /** Folder of this test file's pages; gone afterwards. */
  readonly folder: string;
  /** What `render` makes of the built client. */
  html(render: Render): string;
  /** An empty page beside the address of a file that holds what `render` makes. */
  blank(
    render: Render,
    options?: BrowserContextOptions,
  ): Promise<{ readonly page: Page; readonly url: string }>;
  /** The page, opened and drawn. */
  open(render: Render, options?: BrowserContextOptions, hash?: string): Promise<OpenedPage>;
}

const watch = async (page: Page, url: string): Promise<string[]> => {
  const troubles: string[] = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) troubles.push(message.text());
  });
  page.on('pageerror', (error) => troubles.push(error.message));
  page.on('request', (request) => {
    if (request.url().split('#')[0] !== url && request.url() !== 'data:,') troubles.push(request.url());
  });
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', (event) =>
      console.error(`CSP ${event.violatedDirective}`),
    );
  });
  return troubles;
};

/** `drawn` selects what stands in a page of this kind once it is drawn. */
export const reportPages = (name: ClientName, drawn: string): ReportPages => {
  const folder = mkdtempSync(join(tmpdir(), 'kvtier-page-'));
  let browser: Browser;
  let client: Client;

  beforeAll(async () => {
    client = buildClient(name);
    browser = await openChromium();
  }, openTimeoutMs);

  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true });
  });

  const blank: ReportPages['blank'] = async (render, options = {}) => {
    const file = join(folder, 'report.html');
    writeFileSync(file, render(client));
    const page = await openPage(browser, { viewport: { width: 1440, height: 900 }, ...options });
    return { page, url: pathToFileURL(file).href };
  };

  return {
    folder,
    html: (render) => render(client),
    blank,
    open: async (render, options, hash = '') => {
      const { page, url } = await blank(render, options);
      const troubles = await watch(page, url);
      await page.goto(`${url}${hash}`);
      await page.waitForSelector(`main[data-ready] ${drawn}`);
      return { page, troubles };
    },
  };
};
