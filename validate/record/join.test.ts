/** Pieces of a recording: what joins, and what is refused in one line. */
import { describe, expect, it } from 'vitest';
import type { CaseSamples, ValidationSamples } from '../policies/samples.ts';
import type { Samples } from '../samples.ts';
import { joinCases, joinRestarts } from './join.ts';

const machine = {
  backend: 'cuda',
  name: 'GPU',
  driver: '1',
  runtime: 'CUDA',
  units: 4,
  date: '2026-01-02',
  emulated: [],
};

const site = (id: string, ns: number) => ({
  benchmark: 'attend',
  id,
  operations: [],
  restartNs: [ns],
  samplesNs: [[ns, ns + 1]],
});

const restart = (sites: Samples['sites'], on = machine): { path: string; samples: Samples } => ({
  path: 'some.json.gz',
  samples: { format: 'kvtier.samples/1', machine: on, senses: [{ smMhz: 1 }], sites },
});

const caseOf = (policy: string): CaseSamples => ({
  policy,
  model: 'm',
  context: 8,
  batch: 1,
  budget: null,
  layers: 1,
  modelLayers: 2,
  operations: [],
  rounds: [[1]],
  operationNs: [],
  graph: true,
  calls: 1,
  bytes: { hbm: 1, h2d: 0, d2h: 0, dram: 0 },
  outputError: null,
  outputNote: null,
  jaccard: null,
  standIns: [],
});

const piece = (cases: readonly CaseSamples[]): { path: string; samples: ValidationSamples } => ({
  path: 'piece.json.gz',
  samples: {
    format: 'kvtier.validation-samples/1',
    machine,
    senses: [],
    cases: [...cases],
    refused: [{ policy: 'late', context: 8, batch: 1, reason: 'no time' }],
  },
});

describe('restarts', () => {
  it('are joined site by site, those of one piece alone too', () => {
    const joined = joinRestarts([
      restart([site('a', 5), site('b', 7)]),
      restart([site('b', 6), site('c', 9)], { ...machine, driver: '2', date: '2026-01-03' }),
    ]);
    expect(joined.sites.map(({ id, restartNs }) => [id, restartNs])).toEqual([
      ['a', [5]],
      ['b', [7, 6]],
      ['c', [9]],
    ]);
    expect(joined.sites[1].samplesNs).toHaveLength(2);
    expect(joined.senses).toHaveLength(2);
    expect(joined.machine).toMatchObject({ driver: '1, 2', date: '2026-01-03' });
  });

  it('of another machine, or of other sites by the same name, are refused', () => {
    const other = restart([], { ...machine, name: 'other GPU' });
    expect(() => joinRestarts([restart([]), other])).toThrow('machine.name: expected GPU');
    const operation = { kind: 'wait', stream: 'compute', after: [] } as never;
    const changed = { ...site('a', 5), operations: [operation] };
    expect(() => joinRestarts([restart([site('a', 5)]), restart([changed])])).toThrow(
      'site attend a: expected the operations of the other restarts',
    );
  });
});

describe('cases', () => {
  it('of all pieces stand side by side, each once', () => {
    const joined = joinCases([piece([caseOf('full')]), piece([caseOf('quest')])]);
    expect(joined.cases.map(({ policy }) => policy)).toEqual(['full', 'quest']);
    expect(joined.refused).toHaveLength(2);
    expect(() => joinCases([piece([caseOf('full')]), piece([caseOf('full')])])).toThrow(
      'full, m, 8 tokens, batch 1: expected each case once',
    );
  });
});
