/** Pieces of a recording joined: restarts and cases of the same machine, taken one after another or in several starts of it. */
import { SimError } from '../../sim/error.ts';
import type { CaseSamples, ValidationSamples } from '../policies/samples.ts';
import type { Samples, SiteSamples } from '../samples.ts';

/** A piece with the name of its file, for messages. */
export interface Piece<T> {
  readonly path: string;
  readonly samples: T;
}

type Pieces<T> = readonly [Piece<T>, ...Piece<T>[]];
type Machine = Samples['machine'];

const SAME_FIELDS = ['backend', 'name', 'units', 'runtime'] as const;

/** One machine of all pieces, of the last one's date, with every driver. Throws SimError 'invalid-input' where they differ. */
const joinMachines = (pieces: Pieces<{ readonly machine: Machine }>): Machine => {
  const [first] = pieces;
  for (const { path, samples } of pieces)
    for (const field of SAME_FIELDS)
      if (samples.machine[field] !== first.samples.machine[field])
        throw new SimError(
          'invalid-input',
          `${path}: machine.${field}: expected ${first.samples.machine[field]} as in ${first.path}, found ${samples.machine[field]}`,
        );
  const drivers = new Set(pieces.map(({ samples }) => samples.machine.driver));
  const dates = pieces.map(({ samples }) => samples.machine.date).sort();
  return { ...first.samples.machine, driver: [...drivers].join(', '), date: dates[dates.length - 1] };
};

const sensesOf = (pieces: Pieces<{ readonly senses: Samples['senses'] }>): Samples['senses'] =>
  pieces.flatMap(({ samples }) => samples.senses);

/** Restarts of all pieces, site by site; a site that one of them lacks has fewer. */
export const joinRestarts = (pieces: Pieces<Samples>): Samples => {
  const machine = joinMachines(pieces);
  const sites = new Map<string, SiteSamples>();
  for (const { path, samples } of pieces)
    for (const site of samples.sites) {
      const key = `${site.benchmark} ${site.id}`;
      const before = sites.get(key);
      if (before !== undefined && JSON.stringify(before.operations) !== JSON.stringify(site.operations))
        throw new SimError(
          'invalid-input',
          `${path}: site ${key}: expected the operations of the other restarts`,
        );
      sites.set(key, {
        ...site,
        restartNs: [...(before?.restartNs ?? []), ...site.restartNs],
        samplesNs: [...(before?.samplesNs ?? []), ...site.samplesNs],
      });
    }
  const { format } = pieces[0].samples;
  return { format, machine, senses: sensesOf(pieces), sites: [...sites.values()] };
};

const caseKey = ({ policy, model, context, batch, budget }: CaseSamples): string =>
  `${policy}, ${model}, ${context} tokens, batch ${batch}${budget === null ? '' : `, budget ${budget}`}`;

/** Cases of all pieces; a case stands in one of them only. */
export const joinCases = (pieces: Pieces<ValidationSamples>): ValidationSamples => {
  const machine = joinMachines(pieces);
  const found = new Map<string, string>();
  for (const { path, samples } of pieces)
    for (const one of samples.cases) {
      const key = caseKey(one);
      const other = found.get(key);
      if (other !== undefined)
        throw new SimError('invalid-input', `${path}: ${key}: expected each case once, ${other} has it too`);
      found.set(key, path);
    }
  const { format } = pieces[0].samples;
  return {
    format,
    machine,
    senses: sensesOf(pieces),
    cases: pieces.flatMap(({ samples }) => samples.cases),
    refused: pieces.flatMap(({ samples }) => samples.refused),
  };
};
