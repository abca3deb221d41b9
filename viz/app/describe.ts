/** The experiment in words, for the page's header: known fields as a sentence, all fields as a flat list. */
import { formatCount, plural } from './format.ts';

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A name that may stand plainly or inside an object's `name`, `file`, `preset` or `synthetic`. */
const nameOf = (value: unknown): string | undefined => {
  if (typeof value === 'string') return value;
  if (!isFields(value)) return undefined;
  for (const key of ['name', 'file', 'path', 'preset', 'synthetic', 'model']) {
    const found = value[key];
    if (typeof found === 'string') return found;
  }
  return undefined;
};

const countOf = (experiment: Fields, ...keys: readonly string[]): number | undefined => {
  for (const key of keys) {
    const value = experiment[key];
    if (typeof value === 'number') return value;
  }
  return undefined;
};

const isSynthetic = (experiment: Fields): boolean =>
  experiment.synthetic !== undefined ||
  (isFields(experiment.trace) && experiment.trace.synthetic !== undefined);

/** "llama-3.1-8b on h100-sxm": the page's title. */
export const titleOf = (experiment: Fields): string => {
  const model = nameOf(experiment.model) ?? 'A model';
  const hardware = nameOf(experiment.hardware);
  return hardware === undefined ? model : `${model} on ${hardware}`;
};

/** One sentence: context, batch, steps, trace, stack. Fields that the experiment lacks are left out. */
export const describeExperiment = (experiment: Fields, policies: number): string => {
  const context = countOf(experiment, 'context', 'contextTokens');
  const batch = countOf(experiment, 'batch');
  const steps = countOf(experiment, 'steps');
  const trace = nameOf(experiment.trace) ?? nameOf(experiment.synthetic);
  const stack = nameOf(experiment.stack);
  const parts = [
    plural(policies, 'KV-cache policy', 'KV-cache policies'),
    context === undefined ? '' : `${formatCount(context)} tokens of context`,
    batch === undefined ? '' : `batch ${formatCount(batch)}`,
    steps === undefined ? '' : plural(steps, 'decode step', 'decode steps'),
    trace === undefined
      ? ''
      : `${isSynthetic(experiment) ? 'synthetic attention in the manner of' : 'attention trace'} ${trace}`,
    stack === undefined || stack === 'default' ? '' : `software stack ${stack}`,
    experiment.dense === false ? 'without projections and MLP' : '',
  ];
  return `${parts.filter((part) => part !== '').join(', ')}.`;
};

/** Every field by its dotted name, in the experiment's order. */
export const flattenFields = (value: unknown, prefix = ''): readonly (readonly [string, string])[] => {
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== 'object' || item === null)) return [[prefix, value.join(', ')]];
    return value.flatMap((item, i) => flattenFields(item, `${prefix}[${i}]`));
  }
  if (!isFields(value)) return [[prefix, String(value)]];
  return Object.entries(value).flatMap(([key, item]) =>
    flattenFields(item, prefix === '' ? key : `${prefix}.${key}`),
  );
};
