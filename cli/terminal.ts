/**
 * The terminal as verbs see it: text or one JSON document on stdout, notes and progress on stderr.
 * Progress is drawn only on a TTY, at most ten times a second.
 */
import { writeSync } from 'node:fs';
import type { Progress, VerbContext } from './verb.ts';

const BAR_COLUMNS = 24;
const REDRAW_NS = 100_000_000n;
const silent: Progress = { update: () => {}, end: () => {} };

const createProgress = (label: string, total: number): Progress => {
  let drawnNs = 0n;
  const draw = (done: number): void => {
    const ratio = total > 0 ? Math.min(1, done / total) : 0;
    const filled = Math.round(ratio * BAR_COLUMNS);
    const bar = '█'.repeat(filled) + '░'.repeat(BAR_COLUMNS - filled);
    process.stderr.write(`\r${label} ${bar} ${Math.floor(100 * ratio)}%\u001b[K`);
  };
  return {
    update(done) {
      const nowNs = process.hrtime.bigint();
      if (nowNs - drawnNs < REDRAW_NS) return;
      drawnNs = nowNs;
      draw(done);
    },
    end() {
      if (drawnNs > 0n) process.stderr.write('\r\u001b[K');
    },
  };
};

/** Without what a terminal would obey: titles and names come from files of others. */
const shown = (text: string): string => text.replace(/[^\P{Cc}\n\t]/gu, '\u{fffd}');

/** A context on this process's own streams. `print` is mute with `json`, `printJson` without. */
export const createTerminal = (json: boolean): VerbContext => ({
  json,
  columns: process.stdout.columns ?? 100,
  print: (text) => {
    if (!json) process.stdout.write(shown(text.endsWith('\n') ? text : `${text}\n`));
  },
  printJson: (document) => {
    if (json) process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  },
  note: (text) => {
    process.stderr.write(shown(`${text}\n`));
  },
  progress: (label, total) => (process.stderr.isTTY === true ? createProgress(label, total) : silent),
});

const onStreamError = (error: NodeJS.ErrnoException): void => {
  if (error.code === 'EPIPE') process.exit(0);
  try {
    writeSync(2, `kvtier: output: ${error.message}\n`);
  } finally {
    process.exit(1);
  }
};

/** A reader that stops reading (`| head`) ends the run quietly: nobody is left to tell. A full disk is told. */
export const quietOnClosedPipe = (): void => {
  for (const stream of [process.stdout, process.stderr]) {
    if (!stream.listeners('error').includes(onStreamError)) stream.on('error', onStreamError);
  }
};
