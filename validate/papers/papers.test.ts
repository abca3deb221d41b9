/** The collection as data: every file is sound, every fit keeps to its own cells, and a fit gives what the files hold. */
import { describe, expect, it } from 'vitest';
import { fitStack } from './fit.ts';
import { machineOf } from './machine.ts';
import {
  checkPaper,
  loadPaper,
  loadPaperStack,
  paperNames,
  paperStackNames,
  resolveSetup,
  stackOf,
} from './papers.ts';
import { type Cell, MAX_FITTED, paperSchema, paperStackSchema } from './schema.ts';

const papers = paperNames.map(loadPaper);
const stacks = paperStackNames.map(loadPaperStack);
const nameOf = ({ table, cell }: Cell): string => `${table}: ${cell}`;

describe('the files', () => {
  it('are named as they name themselves', () => {
    expect(papers.map(({ name }) => name)).toEqual(paperNames);
    expect(stacks.map(({ name }) => name)).toEqual(paperStackNames);
  });

  it('use stacks and machines that exist', () => {
    for (const paper of papers)
      for (const { stack } of Object.values(paper.setups))
        expect([...paperStackNames, ...Object.keys(paper.stacks)]).toContain(stack);
    const own = papers.flatMap((paper) => Object.keys(paper.stacks).map((name) => stackOf(paper, name)));
    for (const stack of [...stacks, ...own]) expect(machineOf(stack).hardware.name).toBe(stack.hardware);
  });

  it('resolve every set-up of every cell', () => {
    for (const paper of papers) {
      for (const { setup, against } of paper.cells) {
        expect(resolveSetup(paper, setup).contextTokens).toBeGreaterThan(0);
        if (against) expect(resolveSetup(paper, against.setup).contextTokens).toBeGreaterThan(0);
      }
    }
  });

  it('may be one of the user’s own, refused by its name where a machine is not there', () => {
    const paper = structuredClone(loadPaper('magicpig'));
    expect(checkPaper(paper, 'mine.json').cells).toEqual(paper.cells);
    const [stack] = Object.values(paper.stacks);
    const stacks = { 'l20-pytorch': { ...stack, hardware: 'l21' } };
    expect(() => checkPaper({ ...paper, stacks }, 'mine.json')).toThrow(/l21/);
    expect(() => checkPaper({ ...paper, stacks: {} }, 'mine.json')).toThrow(
      /mine\.json: field setups\.magicpig\.stack.*got l20-pytorch/,
    );
    const stated = [{ ...stack.stated[0], path: 'hardware.accelerator.sns' }];
    const lost = { 'l20-pytorch': { ...stack, stated } };
    expect(() => checkPaper({ ...paper, stacks: lost }, 'mine.json')).toThrow(/mine\.json.*sns/);
  });

  it('refuse a cell that stands twice, a set-up that is not there, and a fifth constant', () => {
    const [paper] = papers;
    const twice = { ...paper, cells: [paper.cells[0], paper.cells[0]] };
    expect(paperSchema.safeParse(twice).error?.issues[0].message).toMatch(/stands twice/);
    const lost = { ...paper, setups: {} };
    expect(paperSchema.safeParse(lost).error?.issues[0].message).toMatch(/no set-up named/);
    const [stack] = stacks;
    const five = { ...stack, fitted: Array.from({ length: MAX_FITTED + 1 }, () => stack.fitted[0]) };
    expect(paperStackSchema.safeParse(five).error?.issues[0].message).toMatch(/at most 4 fitted/);
  });
});

describe('calibration', () => {
  it('is a cell’s whole role: what is fitted on is calibration, and calibration is fitted on', () => {
    for (const paper of papers) {
      const seen = new Set(
        stacks.flatMap(({ fitted }) =>
          fitted.filter((constant) => constant.paper === paper.name).flatMap(({ cells }) => cells),
        ),
      );
      const calibration = paper.cells.filter(({ role }) => role === 'calibration').map(nameOf);
      expect([...seen].sort()).toEqual([...calibration].sort());
    }
  });

  it('keeps to four constants a paper', () => {
    for (const { name } of papers) {
      const constants = stacks.flatMap(({ fitted }) => fitted.filter(({ paper }) => paper === name));
      expect(constants.length).toBeLessThanOrEqual(MAX_FITTED);
    }
  });

  it('gives what the file holds, from a start elsewhere, twice the same', () => {
    const stack = loadPaperStack('wg-kv');
    const [{ value: held, ...constant }, ...others] = [...stack.fitted].reverse();
    const provenance = { status: 'assumed' as const, source: 'the file', date: '2026-11' };
    const stated = others.map(({ path, value, how }) => ({ path, value, how, ...provenance }));
    const start = {
      ...stack,
      stated: [...stack.stated, ...stated],
      fitted: [{ ...constant, value: held * 1.5 }],
    };
    const values = fitStack(start);
    expect(Math.abs(values[0] / held - 1)).toBeLessThan(1e-3);
    expect(fitStack(start)).toEqual(values);
  });
});
