/** A validation as one JSON document and as text for people. */
import { RESULT_FORMAT } from '../sim/result.ts';
import type { Validation } from '../validate/policies/evaluate.ts';
import { predictorOf } from '../viz/validation/words.ts';
import { formatBytes, formatNs, formatRatio } from './format.ts';
import { renderTable } from './table.ts';

/** What predicted. */
interface JudgeFlags {
  readonly hardware: string;
  readonly stack: string;
  readonly seed: number;
}

/** The verb's JSON: the contract's fields, and beside them all that the report draws. */
export const validationDocument = (validation: Validation, given: JudgeFlags) => ({
  format: RESULT_FORMAT,
  kind: 'validate' as const,
  experiment: { hardware: given.hardware, stack: given.stack },
  seed: given.seed,
  ...validation,
});

export type ValidationDocument = ReturnType<typeof validationDocument>;

const signed = (ratio: number): string => `${ratio > 0 ? '+' : ''}${(100 * ratio).toFixed(1)} %`;
const orDash = (value: number | null, write: (value: number) => string): string =>
  value === null ? '–' : write(value);

const LEGEND = [
  'predicted: the model, from the machine profile alone. measured: median of the quietest round. error: of the prediction.',
  'bytes: what the calls touch. output: error of attention against exact attention over the same choice.',
  'sets: Jaccard of what kernels select against what the policy selects.',
  'floor: bytes and flops at measured ceilings along what waits for each other, without launches.',
  'most above it: operations whose time alone exceeds their own floor most.',
  'stand-ins: operations without a kernel of their own, run as work of the same bytes, flops and launches.',
];

/** What a step should need at most over its floor, where bytes rule it. */
const NEAR_FLOOR = 1.25;

const summaryLines = ({ summary, cases }: Validation): readonly string[] => {
  const near = cases.filter(({ floor }) => floor.ratio <= NEAR_FLOOR).length;
  const { n, mape, medianApe, p95Ape, bias, kendallTau, bytesMape, noiseApe, signAccuracy } = summary;
  return [
    `${n} cases: error ${formatRatio(mape)} mean, ${formatRatio(medianApe)} median, ${formatRatio(p95Ape)} P95; bias ${signed(bias)}; bytes ${formatRatio(bytesMape)}`,
    `ranking of policies: Kendall tau ${orDash(kendallTau, (x) => x.toFixed(2))}; pairs apart by more than noise in the right order ${orDash(signAccuracy, formatRatio)}; noise ${orDash(noiseApe, formatRatio)}`,
    `floors: ${near} of ${n} cases within ${NEAR_FLOOR} times of theirs`,
  ];
};

export const renderValidation = (validation: ValidationDocument, columns: number): string => {
  const { machine, cases, experiment } = validation;
  const rows = cases.map((one) => [
    one.policy,
    String(one.context),
    String(one.batch),
    String(one.layers),
    formatNs(one.predictedNs),
    formatNs(one.measuredNs),
    signed(one.predictedNs / one.measuredNs - 1),
    formatBytes(one.measuredBytes),
    signed(one.predictedBytes / one.measuredBytes - 1),
    orDash(one.outputError, (x) => x.toPrecision(2)),
    orDash(one.jaccard, (x) => x.toFixed(3)),
    formatNs(one.floor.floorNs),
    one.floor.ratio.toFixed(2),
    one.floor.worst ?? '–',
    one.standIns.map(({ what }) => what).join(', ') || '–',
  ]);
  return [
    `${machine.name} (${machine.backend}), predicted by ${predictorOf(experiment)}`,
    ...machine.emulated.map((text) => `emulated: ${text}`),
    '',
    renderTable(
      [
        'policy',
        'context',
        'batch',
        'layers',
        'predicted',
        'measured',
        'error',
        'bytes',
        'bytes error',
        'output',
        'sets',
        'floor',
        'over floor',
        'most above it',
        'stand-ins',
      ],
      rows,
      { columns, right: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12] },
    ),
    '',
    ...summaryLines(validation),
    '',
    ...LEGEND,
  ].join('\n');
};
