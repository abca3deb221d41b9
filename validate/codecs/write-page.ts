/**
 * Writes docs/codecs.md: bytes of every codec, and its errors on the attention samples that ship. `npm run codecs`, after
 * a build; takes a minute or two.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openAttentionFile } from '../../traces/attention/node-file.ts';
import { type CodecErrors, measureCodecs } from './errors.ts';
import { codecPage } from './page.ts';

const SAMPLES = 'traces/samples';
const STEPS = 32;
const EVERY_STEPS = 8;

const samplePaths = (): readonly string[] =>
  ['', 'attention/'].flatMap((folder) =>
    readdirSync(join(SAMPLES, folder))
      .filter((name) => name.endsWith('.safetensors'))
      .sort()
      .map((name) => `${folder}${name}`),
  );

const measure = (path: string, preRope: boolean): readonly CodecErrors[] => {
  const trace = openAttentionFile(join(SAMPLES, path));
  const { recordedLayers, kvHeads } = trace.shape;
  return measureCodecs({
    trace,
    layers: recordedLayers,
    kvHeads: Array.from({ length: kvHeads }, (_, head) => head),
    steps: STEPS,
    everySteps: EVERY_STEPS,
    preRope,
  });
};

const samples = samplePaths().map((path) => ({
  sample: path.replace(/^.*\//, '').replace('.safetensors', ''),
  asRecorded: measure(path, false),
  beforeRope: measure(path, true),
}));
const protocol = `all recorded layers and heads, ${STEPS / EVERY_STEPS} of ${STEPS} steps`;
writeFileSync('docs/codecs.md', codecPage(samples, protocol));
