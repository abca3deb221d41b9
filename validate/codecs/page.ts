/** docs/codecs.md from measured errors: what each codec takes and what it costs. */
import { mean } from '../../sim/engine/stats.ts';
import { codedBytesPerToken } from '../../sim/policy/codec.ts';
import { BLOCK_TOKENS, type CodecErrors, codecs } from './errors.ts';

/** Head dimension of the bytes that are shown. */
const HEAD_DIM = 128;

const HEAD = `# Codecs

Stored forms of keys and values, one file each in [sim/policy/codecs](../sim/policy/codecs). A policy names the ones that it uses;
the \`quantized\` policy takes any of them by name, so that two can be compared as whole policies:

    npx kvtier compare --policies "full,quantized:codec=int4,quantized:codec=nuq4;preRope=true,kivi,kvquant"

Bytes are exact: codes, scales, minima, outliers, references; tables that a whole head shares stand apart. Errors are measured, not
assumed: a codec really codes the recorded rows, scales rounded to half precision, and the recorded queries attend to what is decoded.

The page is written by \`npm run codecs\`, not by hand.
`;

const number = (x: number): string => (x >= 100 ? x.toFixed(0) : x.toPrecision(3)).replace(/\.0+$/, '');
const percent = (x: number): string => `${number(100 * x)} %`;
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
/** The first `texts` columns are words, the others numbers. */
const table = (texts: number, header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(header), row(header.map((_, at) => (at < texts ? '---' : '--:'))), ...rows.map(row)].join('\n');

export const bytesTable = (): string =>
  table(
    2,
    ['codec', 'what it is', 'bytes per token', 'bits per element', 'shared tables'],
    Object.values(codecs).map((codec) => {
      const bytes = codedBytesPerToken(codec, HEAD_DIM, BLOCK_TOKENS);
      return [
        `\`${codec.name}\``,
        codec.title,
        number(bytes),
        number((8 * bytes) / (2 * HEAD_DIM)),
        codec.tableBytes ? `${number(codec.tableBytes(HEAD_DIM) / 1024)} KiB` : '–',
      ];
    }),
  );

/** Errors on one sample, keys as recorded and as they were before rotary embedding. */
export interface SampleErrors {
  readonly sample: string;
  readonly asRecorded: readonly CodecErrors[];
  readonly beforeRope: readonly CodecErrors[];
}

const errorTable = (samples: readonly SampleErrors[]): string => {
  const names = Object.keys(codecs);
  return table(
    1,
    ['codec', 'logit RMS', 'keys', 'values', 'total variation', 'output error', 'before rotation'],
    names.map((name, at) => {
      const over = (field: Exclude<keyof CodecErrors, 'codec'>): number =>
        mean(samples.map(({ asRecorded }) => asRecorded[at][field]));
      return [
        `\`${name}\``,
        number(over('logitRms')),
        percent(over('keyError')),
        percent(over('valueError')),
        percent(over('totalVariation')),
        percent(over('outputError')),
        percent(mean(samples.map(({ beforeRope }) => beforeRope[at].outputError))),
      ];
    }),
  );
};

const sampleTable = (samples: readonly SampleErrors[]): string =>
  table(
    1,
    ['codec', ...samples.map(({ sample }) => sample)],
    Object.keys(codecs).map((name, at) => [
      `\`${name}\``,
      ...samples.map(({ asRecorded }) => percent(asRecorded[at].outputError)),
    ]),
  );

/** The whole page; `protocol` says what was replayed. */
export const codecPage = (samples: readonly SampleErrors[], protocol: string): string =>
  [
    HEAD,
    '## Bytes',
    '',
    `Per token of one KV head with ${HEAD_DIM} channels, keys and values together, in blocks of ${BLOCK_TOKENS} tokens; raw 16-bit rows take ${4 * HEAD_DIM}.`,
    '',
    bytesTable(),
    '',
    '## Errors',
    '',
    `Means over the ${samples.length} samples that ship (${protocol}), everything coded but four sinks and the last 128 tokens.`,
    '*Logit RMS*: error of q·k/√d. *Keys*, *values*: squared error of rows, weighted by attention, relative to their squared length.',
    '*Total variation*: half the L1 distance of attention weights. *Output error*: relative L2 error of the attention output.',
    '*Before rotation*: the output error when keys are coded as they were before rotary embedding.',
    '',
    errorTable(samples),
    '',
    'Output error by sample:',
    '',
    sampleTable(samples),
    '',
    'The samples are of small models with 64 channels a head: read the order and not the level.',
    '',
  ].join('\n');
