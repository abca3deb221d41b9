/**
 * The command line's root: finds the verb, turns its schema into flags, runs it, and alone prints errors and sets
 * the exit code (0 done, 1 failed, 2 wrong usage or bad input). Only the chosen verb's module is loaded.
 */
import { readFileSync } from 'node:fs';
import { Argument, Command, CommanderError, Option } from 'commander';
import type * as z from 'zod';
import { nearNames } from '../sim/near-names.ts';
import { packageRoot } from '../traces/package-root.ts';
import { catalog } from './catalog.generated.ts';
import { failureOf, flagIssues } from './failure.ts';
import { type FlagSpec, flagSpecs, parseFlag } from './flags.ts';
import { createTerminal, quietOnClosedPipe } from './terminal.ts';
import { UsageError, type Verb } from './verb.ts';

const verbs: Readonly<Record<string, { readonly summary: string; readonly load: () => Promise<unknown> }>> =
  catalog;

const version = (): string => {
  const manifest: { version: string } = JSON.parse(
    readFileSync(new URL('package.json', packageRoot()), 'utf8'),
  );
  return manifest.version;
};

const describe = (spec: FlagSpec): string => {
  const text = spec.description;
  const shown = Array.isArray(spec.defaultValue) ? spec.defaultValue.join(',') : spec.defaultValue;
  const plain = ['string', 'number'].includes(typeof shown) && shown !== '';
  const facts = [
    ...(spec.choices.length > 0 ? [`one of ${spec.choices.join(', ')}`] : []),
    ...(plain ? [`default ${shown}`] : []),
    ...(spec.required ? ['required'] : []),
  ];
  return facts.length === 0 ? text : `${text}${text === '' ? '' : ' '}(${facts.join('; ')})`;
};

const valueHint = (spec: FlagSpec): string => {
  if (spec.kind === 'record') return '<name=value>';
  const item = spec.itemKind === 'number' ? 'n' : spec.choices.length > 0 ? 'name' : 'value';
  return spec.kind === 'array' ? `<${item},…>` : `<${item}>`;
};

const optionOf = (spec: FlagSpec): Option => {
  if (spec.kind === 'boolean') return new Option(`--${spec.flag}`, describe(spec));
  const option = new Option(`--${spec.flag} ${valueHint(spec)}`, describe(spec));
  // Values stay text here: flags.ts reads them, the schema judges them.
  return option.argParser((text: string, earlier: string[] | undefined) => {
    if (/^--[a-z]/.test(text))
      throw new UsageError(`--${spec.flag}: expected a value, got the flag '${text}'`);
    return [...(earlier ?? []), text];
  });
};

const argumentOf = (spec: FlagSpec): Argument => {
  // Optional to commander even where the schema requires it: the schema's complaint names the choices.
  return new Argument(`[${spec.flag}${spec.kind === 'array' ? '...' : ''}]`, describe(spec));
};

/** The verb's fields from what commander collected; fields that were not given are left to the schema's defaults. */
const collect = (verb: Verb, specs: readonly FlagSpec[], command: Command): z.infer<z.ZodObject> => {
  const given: Record<string, unknown> = {};
  const options = command.opts();
  for (const spec of specs) {
    const positional = verb.positionals?.indexOf(spec.field) ?? -1;
    const raw = positional >= 0 ? command.processedArgs[positional] : options[attributeName(spec)];
    if (raw === undefined || (Array.isArray(raw) && raw.length === 0)) continue;
    given[spec.field] = parseFlag(spec, raw);
  }
  const parsed = verb.flags.safeParse(given);
  if (parsed.success) return parsed.data;
  throw new UsageError(flagIssues(parsed.error.issues, given, (field) => labelOf(verb, specs, field)));
};

/** commander's own key for a flag: it drops `no-` and camel-cases the rest. */
const attributeName = (spec: FlagSpec): string => new Option(`--${spec.flag}`).attributeName();

const labelOf = (verb: Verb, specs: readonly FlagSpec[], field: string): string => {
  const flag = specs.find((spec) => spec.field === field)?.flag ?? field;
  return verb.positionals?.includes(field) === true ? flag.toUpperCase() : `--${flag}`;
};

const addVerb = (command: Command, verb: Verb): void => {
  const specs = flagSpecs(verb.flags);
  for (const field of verb.positionals ?? []) {
    const spec = specs.find((candidate) => candidate.field === field);
    if (spec === undefined) throw new Error(`verb ${verb.name}: positional ${field} is not in its schema`);
    command.addArgument(argumentOf(spec));
  }
  for (const spec of specs) {
    if (verb.positionals?.includes(spec.field) !== true) command.addOption(optionOf(spec));
  }
  command.option('--json', 'print one JSON document on stdout and nothing else');
  if (verb.examples.length > 0) {
    command.addHelpText('after', `\nExamples:\n${verb.examples.map((example) => `  ${example}`).join('\n')}`);
  }
  command.action(async () => {
    await verb.run(collect(verb, specs, command), createTerminal(command.opts().json === true));
  });
};

/** Errors become exceptions without output; help goes to stdout as usual. Applies to subcommands made afterwards. */
const quietErrors = (command: Command): Command =>
  command
    .exitOverride()
    .configureOutput({ outputError: () => {} })
    .showHelpAfterError(false);

const buildProgram = async (wanted: string | undefined): Promise<Command> => {
  const program = quietErrors(new Command('kvtier'))
    .description('Predicts what a KV-cache policy does to a memory hierarchy.')
    .version(version())
    .usage('<verb> [flags]')
    .helpCommand('help [verb]', 'shows the flags of a verb');
  program.addHelpText('after', '\nFlags and examples of a verb: kvtier <verb> --help');
  for (const [name, entry] of Object.entries(verbs)) {
    const command = program.command(name).description(entry.summary);
    if (name === wanted) addVerb(command, (await entry.load()) as Verb);
  }
  return program;
};

/** The verb named on the command line (`help VERB` names one too); refuses one that does not exist. */
const verbOf = (args: readonly string[]): string | undefined => {
  const words = args.filter((arg) => !arg.startsWith('-'));
  const name = words[0] === 'help' ? words[1] : words[0];
  if (name === undefined || Object.hasOwn(verbs, name)) return name;
  const names = Object.keys(verbs);
  const [near] = nearNames(name, names, 1);
  const hint = near === undefined ? `; expected one of ${names.join(', ')}` : `, did you mean '${near}'?`;
  throw new UsageError(`unknown verb '${name}'${hint}`);
};

/** `error: unknown option '--x'\n(Did you mean --y?)` as one line in our own words. */
const commanderLine = (error: CommanderError): string =>
  error.message
    .replace(/^error: /, '')
    .replace(/\s*\n\(Did you mean (.*)\?\)/, ", did you mean '$1'?")
    .replace(/\s*\n\s*/g, ' ');

const report = (thrown: unknown): void => {
  if (thrown instanceof CommanderError) {
    process.exitCode = thrown.exitCode === 0 ? 0 : 2;
    if (thrown.exitCode !== 0) process.stderr.write(`kvtier: ${commanderLine(thrown)}\n`);
    return;
  }
  const { exitCode, message } = failureOf(thrown);
  process.exitCode = exitCode;
  process.stderr.write(`kvtier: ${message}\n`);
  if (process.env.KVTIER_DEBUG === '1' && thrown instanceof Error) process.stderr.write(`${thrown.stack}\n`);
};

/** Runs the command line; never throws, leaves the exit code in `process.exitCode`. */
export const main = async (args: readonly string[]): Promise<void> => {
  quietOnClosedPipe();
  try {
    const program = await buildProgram(verbOf(args));
    if (args.length === 0) program.outputHelp();
    else await program.parseAsync([...args], { from: 'user' });
  } catch (error) {
    report(error);
  }
};
