/**
 * A real Chromium for the tests of the page: found on the machine, or installed once with apt-get where that works.
 * Never skips: without a browser, `openChromium` rejects with one line that says what to do.
 */
import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const names = [
  'chromium',
  'chromium-browser',
  'google-chrome',
  'google-chrome-stable',
  'chrome',
  'microsoft-edge',
];
const usualFolders = ['/usr/bin', '/usr/local/bin', '/snap/bin', '/opt/google/chrome'];
const macPaths = [
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  '/Applications/Chromium.app/Contents/MacOS/Chromium',
];

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
};

/** Path of a Chromium or Chrome: CHROME_PATH, then the search path, then the usual places. */
export const findChromium = (): string | undefined => {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...usualFolders];
  const places = folders.flatMap((folder) => names.map((name) => join(folder, name)));
  const asked = process.env.CHROME_PATH;
  return [...(asked === undefined || asked === '' ? [] : [asked]), ...places, ...macPaths].find(isExecutable);
};

const remedy = 'install Chromium or Chrome, or set CHROME_PATH to its executable';

const installChromium = (): void => {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) {
    throw new Error(`the page's tests need a Chromium and found none: ${remedy}`);
  }
  console.error('no Chromium found: installing it with apt-get (about 350 MB, some minutes)');
  const apt = (...args: readonly string[]): void => {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    execFileSync('apt-get', args, { stdio: ['ignore', 'ignore', 'pipe'], env });
  };
  try {
    apt('update');
    apt('install', '-y', '--no-install-recommends', 'chromium');
  } catch (cause) {
    throw new Error(`the page's tests need a Chromium and apt-get could not install it: ${remedy}`, {
      cause,
    });
  }
};

/** Milliseconds to allow for `openChromium`, an installation included. */
export const openTimeoutMs = 600_000;

/** Starts a headless Chromium that has no reason to use the network. */
export const openChromium = async (): Promise<Browser> => {
  if (findChromium() === undefined) installChromium();
  const executablePath = findChromium();
  if (executablePath === undefined) throw new Error(`apt-get installed no Chromium: ${remedy}`);
  return chromium.launch({
    executablePath,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
  });
};

/** How long a page is waited for, ms: as long as a busy machine may take, and shorter than a test may. */
const PAGE_MS = 60_000;

export const openPage = async (browser: Browser, options?: BrowserContextOptions): Promise<Page> => {
  const page = await browser.newPage(options);
  page.setDefaultTimeout(PAGE_MS);
  return page;
};
