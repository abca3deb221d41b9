/** Programs of the prompt: tokens that ride behind it, and passes of their own that a policy adds to it. */
import { expect, test } from 'vitest';
import { loadProfile, loadStack } from '../hardware/load.ts';
import { loadModel } from '../model/models.ts';
import { type ExtraPass, policyDefaults, type Work } from '../policy/policy.ts';
import type { Operation } from '../program/operation.ts';
import { costOf, resolveMachine } from '../timing/cost.ts';
import { kernelStartNs } from '../timing/cost-flow.ts';
import { emptyDemand } from './demand.ts';
import { Lowering } from './lower.ts';

const model = loadModel('llama-3.1-8b');
const PROMPT = 1000;
const work: Work = { index: 'votes', readBytes: { hbm: 3 }, flops: 5, matrixFlops: 7, kernels: 1 };

const prefill = (extraPass: ExtraPass | null, batch = 1): readonly Operation[] =>
  new Lowering({
    model,
    policy: { ...policyDefaults, extraPass, prefillWork: [work], layer: () => ({}) },
    forms: [{ name: 'raw', kBytesPerToken: 256, vBytesPerToken: 256 }],
    batch,
    promptTokens: PROMPT,
    elementBytes: 2,
    layerDramBytes: 0,
    dense: true,
  }).prefill(model.layerKinds.map(() => ({ demand: { ...emptyDemand(1), spillTokens: [10] } }))).operations;

const only = <K extends Operation['kind']>(operations: readonly Operation[], kind: K) =>
  operations.filter((operation): operation is Extract<Operation, { kind: K }> => operation.kind === kind);

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const flopsOf = (operations: readonly Operation[]): number =>
  sum(only(operations, 'dense').flatMap(({ gemms }) => gemms.map(({ m, n, k }) => 2 * m * n * k)));
const headFlops = 2 * model.vocab * model.hidden;

test('riders take part in every product, and attend to the prompt', () => {
  const none = prefill(null, 2);
  const some = prefill({ tokens: 32, contextTokens: PROMPT, passes: 0, adapterRank: 0 }, 2);
  const perToken = (flopsOf(none) - 2 * headFlops) / (2 * PROMPT);
  expect((flopsOf(some) - flopsOf(none)) / (2 * 32)).toBeCloseTo(perToken, 0);
  const added = only(some, 'attend').filter(({ queries }) => queries === 32);
  expect(added).toHaveLength(32);
  // 4 · rows · keys · heads · head dimension, both sequences.
  expect(added[0].flops).toBe(2 * 4 * 32 * PROMPT * 32 * 128);
  expect(added[0].readBytes).toEqual({ hbm: 2 * 8 * PROMPT * 512 });
});

test('adapters cost two thin products beside each product, of the extra tokens alone', () => {
  const pass: ExtraPass = { tokens: 32, contextTokens: PROMPT, passes: 0, adapterRank: 8 };
  const added = flopsOf(prefill(pass)) - flopsOf(prefill({ ...pass, adapterRank: 0 }));
  // Inputs and outputs of the fused q-k-v, o, gate-up and down products of Llama-3.1-8B.
  const widths = 4096 + 6144 + (4096 + 4096) + (4096 + 2 * 14336) + (14336 + 4096);
  expect(added).toBe(2 * 32 * 8 * widths * 32);
});

test('no norms and activations stand around adapters: each product costs two launches, whatever the stack', () => {
  const pass: ExtraPass = { tokens: 32, contextTokens: PROMPT, passes: 0, adapterRank: 8 };
  const eager = resolveMachine(loadProfile('h100-sxm'), loadStack('transformers-eager'));
  const { gemm, launch } = eager;
  const machine = { ...eager, launch: { ...launch, hostNs: 0 } };
  const fixedNs = (adapterRank: number): number =>
    sum(only(prefill({ ...pass, adapterRank }), 'dense').map((dense) => costOf(dense, machine).fixedNs));
  const products = 2 * 4 * 32;
  const each = gemm.startNs + launch.extraNs + kernelStartNs(machine);
  expect(fixedNs(8) - fixedNs(0)).toBeCloseTo(products * each, 0);
});

test('passes of their own follow the whole prompt; they share its work, and copies out wait for the last', () => {
  const operations = prefill({ tokens: 100, contextTokens: PROMPT, passes: 4, adapterRank: 0 });
  const attends = only(operations, 'attend');
  expect(attends.map(({ queries }) => queries)).toEqual([
    ...new Array(32).fill(PROMPT),
    ...new Array(4 * 32).fill(100),
  ]);
  const scores = only(operations, 'score');
  expect(scores).toHaveLength(4 * 32);
  expect(sum(scores.map(({ flops }) => flops))).toBe(5 * 8 * PROMPT * 32);
  expect(sum(scores.map(({ matrixFlops = 0 }) => matrixFlops))).toBe(7 * 8 * PROMPT * 32);
  const lastPass = operations.lastIndexOf(attends[3 * 32 + 31]);
  expect(operations.findIndex(({ kind }) => kind === 'spill')).toBeGreaterThan(lastPass);
  expect(only(operations, 'spill')).toHaveLength(32);
  const perToken = (flopsOf(prefill(null)) - headFlops) / PROMPT;
  expect(flopsOf(operations) - flopsOf(prefill(null))).toBeCloseTo(400 * perToken, 0);
});
