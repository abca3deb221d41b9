/**
 * `node dist/validate/attention/fit.js --name NAME --out FILE CAPTURE…`: fits a preset of the synthetic generator to
 * captured traces of one model, each with all its layers.
 */
import { writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parseArgs } from 'node:util';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { fitModel } from '../../traces/attention/statistics/model-fit.ts';
import { TraceError } from '../../traces/error.ts';
import { presetSource } from './write-preset.ts';

const usage = 'usage: fit.js --name NAME --out FILE CAPTURE.safetensors…\n';

function main(): number {
  const { values, positionals } = parseArgs({
    options: { name: { type: 'string' }, out: { type: 'string' } },
    allowPositionals: true,
  });
  const { name, out } = values;
  if (name === undefined || out === undefined || positionals.length === 0) {
    process.stderr.write(usage);
    return 2;
  }
  const traces = positionals.map((path) => openAttentionFile(path));
  const fit = fitModel(name, traces, (share) => {
    if (process.stderr.isTTY) process.stderr.write(`\rfit ${Math.round(100 * share)} %`);
  });
  const prompts = traces.map(
    ({ metadata, name: path, shape }) =>
      `${String(metadata.provenance.prompt ?? basename(path))} (${shape.promptTokens} tokens, ${shape.steps} steps)`,
  );
  writeFileSync(out, presetSource(fit, prompts.join(', ')));
  return 0;
}

try {
  process.exitCode = main();
} catch (error) {
  if (!(error instanceof TraceError)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 2;
}
