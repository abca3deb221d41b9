/** The experiment in words, for the page's header: known fields as a sentence, all fields as a flat list. */
import { formatCount, plural } from './format.ts';

type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A name that may stand plainly or inside an object; Hugging Face configurations have their own words for it. */
const nameOf = (value: unknown): string | undefined => {
  if (typeof value === 'string') return value;
  if (!isFields(value)) return undefined;
  for (const key of ['name', 'preset', 'label', '_name_or_path', 'model_type']) {
    const found = value[key];
    if (typeof found === 'string') return found;
  }
  return undefined;
};

const countOf = (experiment: Fields, key: string): number | undefined => {
  const value = experiment[key];
  return typeof value === 'number' ? value : undefined;
};

const traceWords = (trace: unknown): string => {
  const name = nameOf(trace);
  if (name === undefined) return '';
  const synthetic = isFields(trace) && trace.kind === 'synthetic';
  return synthetic ? `synthetic attention in the manner of ${name}` : `attention recorded in ${name}`;
};

/** "llama-3.1-8b on h100-sxm": the page's title. */
export const titleOf = (experiment: Fields): string => {
  const model = nameOf(experiment.model) ?? 'A model';
  const hardware = nameOf(experiment.hardware);
  return hardware === undefined ? model : `${model} on ${hardware}`;
};

/** One sentence: context, batch, steps, trace, stack. Fields that the experiment lacks are left out. */
export const describeExperiment = (experiment: Fields, policies: number): string => {
  const context = countOf(experiment, 'contextTokens');
  const batch = countOf(experiment, 'batch');
  const steps = countOf(experiment, 'steps');
  const stack = nameOf(experiment.stack);
  const parts = [
    plural(policies, 'KV-cache policy', 'KV-cache policies'),
    context === undefined ? '' : `${formatCount(context)} tokens of context`,
    batch === undefined ? '' : `batch ${formatCount(batch)}`,
    steps === undefined ? '' : plural(steps, 'decode step', 'decode steps'),
    traceWords(experiment.trace),
    stack === undefined || stack === 'default' ? '' : `software stack ${stack}`,
    experiment.dense === false ? 'without projections and MLP' : '',
  ];
  return `${parts.filter((part) => part !== '').join(', ')}.`;
};

/** A list item with a label of its own on one line: its other fields, its name only where that differs. */
const labelledLine = ({ label, ...rest }: Fields): string =>
  flattenFields(rest)
    .filter(([name, value]) => name !== 'name' || value !== label)
    .map(([name, value]) => `${name.replace(/^config\./, '')} ${value}`)
    .join(', ');

/** Every field by its dotted name, in the experiment's order; labelled items of a list take one line each. */
export const flattenFields = (value: unknown, prefix = ''): readonly (readonly [string, string])[] => {
  if (Array.isArray(value)) {
    if (value.every((item) => typeof item !== 'object' || item === null)) return [[prefix, value.join(', ')]];
    return value.flatMap((item, i): readonly (readonly [string, string])[] =>
      isFields(item) && typeof item.label === 'string'
        ? [[`${prefix}: ${item.label}`, labelledLine(item)]]
        : flattenFields(item, `${prefix}[${i}]`),
    );
  }
  if (!isFields(value)) return [[prefix, String(value)]];
  return Object.entries(value).flatMap(([key, item]) =>
    flattenFields(item, prefix === '' ? key : `${prefix}.${key}`),
  );
};
