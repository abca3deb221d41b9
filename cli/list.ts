/**
 * `kvtier list KIND [NAME]`: what exists. Every row comes from a generated catalog or a loader of the simulator, so
 * a new plug-in or data file is listed without a change here. With NAME, policies show their parameters.
 */
import * as z from 'zod';
import { unknownName } from '../sim/near-names.ts';
import type { PolicyPlugin } from '../sim/policy/policy.ts';
import { flagSpecs } from './flags.ts';
import { formatBytes, formatCount, formatNs, formatRatio } from './format.ts';
import { renderTable } from './table.ts';
import type { Verb, VerbContext } from './verb.ts';

type Row = { readonly name: string } & Readonly<Record<string, unknown>>;

/** What the rows of a plug-in of request replay have in common. */
interface PlainPlugin {
  readonly kind: string;
  readonly title: string;
  readonly source?: string;
  readonly offline?: boolean;
  readonly config?: z.ZodObject;
}

/** One column of the text table: its header, how a row fills it, and whether it stands to the right. */
interface Column {
  readonly header: string;
  readonly cell: (row: Row) => string;
  readonly right?: boolean;
}

interface Kind {
  /** One of them, for messages. */
  readonly singular: string;
  readonly rows: () => Promise<readonly Row[]>;
  readonly columns: readonly Column[];
}

const text = (header: string, field: string): Column => ({ header, cell: (row) => String(row[field] ?? '') });
const number = (header: string, field: string, show: (value: number) => string): Column => ({
  header,
  cell: (row) => (typeof row[field] === 'number' ? show(row[field]) : ''),
  right: true,
});

/** Parameters of a plug-in from its config schema; the same reading that flags get. */
const parametersOf = (config: z.ZodObject): readonly Row[] =>
  flagSpecs(config).map((spec) => ({
    name: spec.field,
    type: spec.kind === 'array' ? `${spec.itemKind}[]` : spec.kind,
    ...(spec.choices.length > 0 ? { choices: spec.choices } : {}),
    default: spec.defaultValue ?? null,
    description: spec.description,
  }));

const policyRows = async (): Promise<readonly Row[]> => {
  const { catalog } = await import('../sim/policy/catalog.generated.ts');
  return Object.values(catalog as unknown as Readonly<Record<string, PolicyPlugin>>).map((policy) => ({
    name: policy.name,
    title: policy.title,
    family: policy.family,
    source: policy.source,
    requires: policy.requires,
    prefers: policy.prefers ?? [],
    parameters: parametersOf(policy.config),
  }));
};

const combinatorRows = async (): Promise<readonly Row[]> => {
  const { catalog } = await import('../sim/policy/combine/catalog.generated.ts');
  return Object.values(catalog).map(({ name, title, parts: [least, most], config }) => ({
    name,
    title,
    policies: least === most ? String(least) : `${least} to ${most}`,
    parameters: parametersOf(config),
  }));
};

/** Rows of plug-ins that are named by their `kind`. */
const pluginRows = (catalog: Readonly<Record<string, unknown>>): readonly Row[] =>
  Object.values(catalog as Readonly<Record<string, PlainPlugin>>).map((plugin) => ({
    name: plugin.kind,
    title: plugin.title,
    ...(plugin.source === undefined ? {} : { source: plugin.source }),
    ...(plugin.offline === undefined ? {} : { offline: plugin.offline }),
    ...(plugin.config === undefined ? {} : { parameters: parametersOf(plugin.config) }),
  }));

/** Attention has one format of its own; request traces come in those of the catalog. */
const formatRows = async (): Promise<readonly Row[]> => {
  const { attentionFormat } = await import('../traces/attention/metadata.ts');
  const { catalog } = await import('../traces/requests/formats/catalog.generated.ts');
  const attention = {
    name: attentionFormat,
    title: 'keys, values and queries in one safetensors file',
    trace: 'attention',
  };
  return [attention, ...pluginRows(catalog).map((row) => ({ ...row, trace: 'requests' }))];
};

/** Profiles of the catalog, then machines that were measured. */
const hardwareRows = async (): Promise<readonly Row[]> => {
  const { listProfiles, profileRow } = await import('../sim/hardware/load.ts');
  const { measuredNames, namedMachine } = await import('./machine.ts');
  const measured = measuredNames().map((name) => profileRow(name, namedMachine(name, undefined).profile));
  return [...listProfiles(), ...measured].map((row) => ({ ...row }));
};

/** Bandwidths of profiles are bytes per ns, which is GB/s. */
const rate = (bytesPerNs: number): string => `${formatBytes(bytesPerNs * 1e9)}/s`;

const KINDS = {
  policies: {
    singular: 'policy',
    rows: policyRows,
    columns: [text('name', 'name'), text('family', 'family'), text('what it does', 'title')],
  },
  combinators: {
    singular: 'combinator',
    rows: combinatorRows,
    columns: [text('name', 'name'), text('policies', 'policies'), text('what it makes of them', 'title')],
  },
  hardware: {
    singular: 'hardware',
    rows: hardwareRows,
    columns: [
      text('name', 'name'),
      number('memory', 'memoryBytes', formatBytes),
      number('HBM peak', 'hbmPeakBytesPerNs', rate),
      number('achieved', 'hbmAchievedBytesPerNs', rate),
      number('bf16', 'bf16Tflops', (tflops) => `${Number(tflops.toPrecision(4))} TFLOP/s`),
      text('link', 'link'),
      number('to device', 'h2dBytesPerNs', rate),
      number('from measurements', 'anchoredRatio', formatRatio),
    ],
  },
  stacks: {
    singular: 'stack',
    rows: async () => (await import('../sim/hardware/load.ts')).listStacks().map((row) => ({ ...row })),
    columns: [
      text('name', 'name'),
      text('launch', 'launch'),
      number('host per launch', 'hostNs', formatNs),
      text('title', 'title'),
    ],
  },
  models: {
    singular: 'model',
    rows: async () => (await import('../sim/model/models.ts')).listModels().map((row) => ({ ...row })),
    columns: [
      text('name', 'name'),
      number('parameters', 'parameters', formatCount),
      number('layers', 'layers', String),
      number('heads', 'heads', String),
      number('KV heads', 'kvHeads', String),
      number('head dim', 'headDim', String),
      text('attention', 'attention'),
      number('KV/token', 'kvBytesPerToken', formatBytes),
      number('max context', 'maxContextTokens', String),
    ],
  },
  formats: {
    singular: 'trace format',
    rows: formatRows,
    columns: [text('name', 'name'), text('trace of', 'trace'), text('what it is', 'title')],
  },
  evictions: {
    singular: 'eviction rule',
    rows: async () => pluginRows((await import('../sim/policy/eviction/catalog.generated.ts')).catalog),
    columns: [
      text('name', 'name'),
      { header: 'reads the future', cell: (row) => (row.offline === true ? 'yes' : '') },
      text('what it does', 'title'),
    ],
  },
  papers: {
    singular: 'paper',
    rows: async () => {
      const { loadPaper, paperNames } = await import('../validate/papers/papers.ts');
      return paperNames.map((name) => {
        const { title, version, sources, cells } = loadPaper(name);
        return { name, title, version, sources, cells: cells.length };
      });
    },
    columns: [text('name', 'name'), number('cells', 'cells', String), text('title', 'title')],
  },
} satisfies Record<string, Kind>;

type KindName = keyof typeof KINDS;
const kindNames = Object.keys(KINDS) as [KindName, ...KindName[]];

const flags = z.object({
  kind: z.enum(kindNames).describe('what to list'),
  name: z.string().optional().describe('only this one, in full'),
});

const showTable = (kind: Kind, rows: readonly Row[], columns: number): string =>
  renderTable(
    kind.columns.map((column) => column.header),
    rows.map((row) => kind.columns.map((column) => column.cell(row))),
    { columns, right: kind.columns.flatMap((column, at) => (column.right === true ? [at] : [])) },
  );

const plain = (value: unknown): string =>
  value === null || value === undefined
    ? '–'
    : Array.isArray(value)
      ? value.map(plain).join(', ')
      : String(value);

/** One row in full: its facts as lines, then its parameters as a table. */
const showOne = (row: Row, context: VerbContext): void => {
  const { parameters, ...facts } = row;
  const shown = Object.entries(facts).filter(
    ([, value]) => typeof value !== 'object' || Array.isArray(value),
  );
  const width = Math.max(...shown.map(([field]) => field.length));
  for (const [field, value] of shown) context.print(`${field.padEnd(width)}  ${plain(value)}`);
  if (!Array.isArray(parameters) || parameters.length === 0) return;
  const lines = (parameters as readonly Row[]).map((p) => [
    p.name,
    plain(p.choices ?? p.type),
    plain(p.default),
    String(p.description),
  ]);
  context.print(
    `\n${renderTable(['parameter', 'values', 'default', 'meaning'], lines, { columns: context.columns })}`,
  );
};

export const verb = {
  name: 'list',
  summary: 'what exists: policies, combinators, hardware, stacks, models, formats, evictions, papers',
  positionals: ['kind', 'name'],
  flags,
  examples: ['kvtier list policies', 'kvtier list policies quest', 'kvtier list models --json'],
  async run({ kind, name }, context) {
    const rows = [...(await KINDS[kind].rows())].sort((a, b) => (a.name < b.name ? -1 : 1));
    const wanted = name === undefined ? rows : rows.filter((row) => row.name === name);
    if (name !== undefined && wanted.length === 0) {
      throw unknownName(
        KINDS[kind].singular,
        name,
        rows.map((row) => row.name),
        kind,
      );
    }
    context.printJson({ [kind]: wanted });
    if (name !== undefined) showOne(wanted[0], context);
    else context.print(showTable(KINDS[kind], wanted, context.columns));
  },
} satisfies Verb<typeof flags>;
