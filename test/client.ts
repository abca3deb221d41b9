/** A page's bundle, built afresh from the sources for the tests, so that none of them judges an old one. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Client, type ClientName, loadClient } from '../viz/report/shell.ts';

export const buildClient = (name: ClientName = 'client'): Client => {
  const folder = mkdtempSync(join(tmpdir(), 'kvtier-client-'));
  try {
    const script = fileURLToPath(new URL('../scripts/build-viz.js', import.meta.url));
    execFileSync(process.execPath, [script, '--out', folder, '--only', name], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    return loadClient(name, pathToFileURL(`${folder}/`));
  } finally {
    rmSync(folder, { recursive: true });
  }
};
