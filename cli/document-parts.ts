/**
 * Parts of the documents that are made from the code, so that they cannot rot: `npm run docs` writes them between
 * `<!-- made: NAME -->` and `<!-- end -->`, and a test fails when one is stale.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadProfile } from '../sim/hardware/load.ts';
import { catalog } from '../sim/policy/catalog.generated.ts';
import { catalog as combinators } from '../sim/policy/combine/catalog.generated.ts';
import type { PolicyPlugin } from '../sim/policy/policy.ts';
import { packageRoot } from '../traces/package-root.ts';
import { residualsOf } from '../validate/fit/residuals.ts';
import type { Validation } from '../validate/policies/evaluate.ts';
import { type EvidenceRecord, judge, readRecords } from '../validate/policies/evidence.ts';
import { readJudgedCounters } from '../validate/traffic/judge.ts';
import { flagSpecs } from './flags.ts';
import { formatNs, formatRatio } from './format.ts';
import { policyTemplate } from './new-policy.ts';

const table = (header: readonly string[], rows: readonly (readonly string[])[]): string =>
  [header, header.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`)
    .join('\n');

/** Each parameter with its default, where it has one. */
const parameters = (config: PolicyPlugin['config']): string =>
  flagSpecs(config)
    .map(({ field, defaultValue }) =>
      defaultValue === undefined ? `\`${field}\`` : `\`${field}\` ${defaultValue}`,
    )
    .join(', ') || '–';

type Errors = { readonly mape: number; readonly medianApe: number; readonly p95Ape: number };

const readJson = (path: string): object => JSON.parse(readFileSync(path, 'utf8')) as object;

const policyTable = (): string => {
  const plugins = Object.values(catalog as unknown as Readonly<Record<string, PolicyPlugin>>);
  const rows = plugins.map(({ name, title, family, source, requires, prefers = [], config, atBudget }) => [
    `\`${name}\``,
    title,
    family,
    source,
    [...requires, ...prefers.map((field) => `(${field})`)].join(' ') || '–',
    atBudget === undefined ? '–' : 'yes',
    parameters(config),
  ]);
  return table(
    ['policy', 'what it is', 'family', 'source', 'trace fields', 'token budget', 'parameters'],
    rows,
  );
};

const combinatorTable = (): string =>
  table(
    ['combinator', 'policies', 'what it makes of them', 'parameters'],
    Object.values(combinators).map(({ name, title, parts: [least, most], config }) => [
      `\`${name}(…)\``,
      least === most ? String(least) : `${least} to ${most}`,
      title,
      parameters(config),
    ]),
  );

const evidenceFolder = fileURLToPath(new URL('validate/evidence/', packageRoot()));

type Judged = { readonly record: EvidenceRecord; readonly validation: Validation };
let judged: readonly Judged[] | undefined;

/** All evidence by the model of today; judged once, for several tables ask. */
const judgedEvidence = (): readonly Judged[] => {
  judged ??= readRecords(evidenceFolder).map((record) => ({
    record,
    validation: judge(evidenceFolder, record),
  }));
  return judged;
};

const evidenceTable = (): string => {
  const rows = judgedEvidence().map(({ record, validation: { machine, summary } }) => {
    const { n, mape, medianApe, p95Ape, bias, kendallTau, bytesMape, noiseApe, signAccuracy } = summary;
    const orDash = (value: number | null, write: (value: number) => string): string =>
      value === null ? '–' : write(value);
    return [
      `\`${record.name}\`: ${record.title}`,
      `${machine.name}, ${machine.date}`,
      record.profile,
      String(n),
      formatRatio(mape),
      formatRatio(medianApe),
      formatRatio(p95Ape),
      formatRatio(bias),
      orDash(kendallTau, (tau) => tau.toFixed(2)),
      orDash(signAccuracy, formatRatio),
      orDash(noiseApe, formatRatio),
      formatRatio(bytesMape),
    ];
  });
  const header = ['evidence', 'machine', 'profile', 'cases', 'mean error', 'median', 'P95', 'bias'];
  return table([...header, 'Kendall τ', 'pairs in order', 'noise', 'bytes'], rows);
};

/** Each policy's mean error and bias in the evidence of steps at all sizes, a column each. */
const policyErrorTable = (): string => {
  const all = judgedEvidence();
  const policies = [
    ...new Set(all.flatMap(({ validation }) => validation.cases.map(({ policy }) => policy))),
  ];
  const cellOf = ({ validation: { cases } }: Judged, policy: string): string => {
    const pairs = cases
      .filter((one) => one.policy === policy)
      .map(({ predictedNs, measuredNs }) => ({ predicted: predictedNs, measured: measuredNs }));
    if (pairs.length === 0) return '–';
    const { mape, bias } = residualsOf(pairs);
    return `${formatRatio(mape)} (${bias > 0 ? '+' : ''}${formatRatio(bias)})`;
  };
  return table(
    ['policy', ...all.map(({ record }) => `\`${record.name}\``)],
    policies.map((policy) => [policy, ...all.map((one) => cellOf(one, policy))]),
  );
};

/** Per policy, the case of the first machine whose calls have the highest floor each: bytes rule there, not launches. */
const floorTable = (): string => {
  const all = judgedEvidence();
  const cases = all
    .filter(({ record }) => record.hardware === all[0].record.hardware)
    .flatMap(({ validation }) => validation.cases);
  const byCall = cases.toSorted((a, b) => b.floor.floorNs / b.calls - a.floor.floorNs / a.calls);
  const policies = [...new Set(cases.map(({ policy }) => policy))];
  const rows = policies
    .flatMap((name) => byCall.find(({ policy }) => policy === name) ?? [])
    .map(({ policy, context, batch, measuredNs, floor, calls }) => [
      policy,
      `${context / 1024}K, batch ${batch}`,
      formatNs(floor.floorNs),
      floor.bound,
      formatNs(measuredNs),
      floor.ratio.toFixed(2),
      `${calls}, ${formatNs(floor.launchNs)}`,
      floor.worst ?? '–',
    ]);
  const header = ['policy', 'case', 'floor', 'bound by', 'measured', 'over floor', 'calls, their launches'];
  return table([...header, 'most above its own floor'], rows);
};

/** Errors of calibrated machines' laws on the sites left out of the fits, as their profiles state them. */
const calibrationTable = (of: 'GPUs' | 'processors'): string => {
  const machines = readRecords(evidenceFolder).flatMap(({ name, microbench, hardware }) => {
    if (microbench === undefined) return [];
    const { calibration, link } = loadProfile(readJson(join(evidenceFolder, hardware)), hardware);
    const isWanted = (link.kind === 'memory') === (of === 'processors');
    return calibration === undefined || !isWanted ? [] : [{ name, calibration }];
  });
  const laws = [...new Set(machines.flatMap(({ calibration }) => calibration.laws.map(({ law }) => law)))];
  const cells = (errors: Errors | null | undefined): readonly string[] =>
    errors === null || errors === undefined
      ? ['–', '–', '–']
      : [errors.mape, errors.medianApe, errors.p95Ape].map(formatRatio);
  const rows = laws.map((law) => [
    law,
    ...machines.flatMap(({ calibration }) => cells(calibration.laws.find((one) => one.law === law)?.heldOut)),
  ]);
  const all = machines.flatMap(({ calibration }) => {
    if (calibration.heldOut !== undefined) return cells(calibration.heldOut);
    const held = calibration.laws.flatMap(({ heldOut }) => heldOut ?? []);
    const n = held.reduce((sum, one) => sum + one.n, 0);
    return [formatRatio(held.reduce((sum, { mape, n: sites }) => sum + mape * sites, 0) / n), '–', '–'];
  });
  const noise = machines.flatMap(({ calibration }) => cells(calibration.noise));
  const header = machines.flatMap(({ name }) => [`${name}: mean`, 'median', 'P95']);
  return table(
    ['law', ...header],
    [
      ...rows,
      ['**all sites left out**', ...all],
      ['noise floor (a restart predicted from another)', ...noise],
    ],
  );
};

const megabytes = (bytes: number): string =>
  (bytes / 1e6).toLocaleString('en-US', { minimumFractionDigits: 1, maximumFractionDigits: 1 });

const signed = (ratio: number): string => `${ratio > 0 ? '+' : ''}${formatRatio(ratio)}`;

/** Counted steps: bytes of device memory and of the link, MB. */
const counterTable = (): string => {
  const sum = ({ readBytes, writtenBytes }: { readBytes: number; writtenBytes: number }): number =>
    readBytes + writtenBytes;
  return table(
    ['step', 'program', 'asked', 'predicted', 'read', 'written', 'error', 'link in: program', 'counted'],
    readJudgedCounters(evidenceFolder).map(({ policy, batch, hbm, link }) => [
      `${policy}, ${batch}`,
      megabytes(hbm.programBytes),
      megabytes(sum(hbm.asked)),
      megabytes(sum(hbm.predicted)),
      megabytes(hbm.counted.readBytes),
      megabytes(hbm.counted.writtenBytes),
      signed(hbm.errorRatio),
      ...(link.programIn === 0
        ? ['–', '–']
        : [link.programIn, link.countedIn].map((bytes) => (bytes / 1e6).toFixed(2))),
    ]),
  );
};

export const documentParts: Readonly<Record<string, () => string>> = {
  'policy-template': () => `\`\`\`ts\n${policyTemplate('every-other.ts', 'every-other')}\`\`\``,
  'policy-table': policyTable,
  'combinator-table': combinatorTable,
  'calibration-table': () => calibrationTable('GPUs'),
  'processor-table': () => calibrationTable('processors'),
  'evidence-table': evidenceTable,
  'policy-error-table': policyErrorTable,
  'floor-table': floorTable,
  'counter-table': counterTable,
};

const MADE = /(<!-- made: ([\w-]+) -->\n)(?:[\s\S]*?\n)??(<!-- end -->)/g;

/** A document with its made parts as they are now. Throws when it asks for a part that is not known. */
export const withParts = (text: string): string =>
  text.replace(MADE, (_, opening: string, name: string, closing: string) => {
    const make = documentParts[name];
    if (make === undefined)
      throw new Error(`no part '${name}'; known: ${Object.keys(documentParts).join(', ')}`);
    return `${opening}${make()}\n${closing}`;
  });
