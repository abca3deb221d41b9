/** The cycle search finds what it must and nothing else. */
import { expect, it } from 'vitest';
import { findCycle } from './cycles.ts';

const graph = (edges: Record<string, string[]>): Map<string, Set<string>> =>
  new Map(Object.entries(edges).map(([from, to]) => [from, new Set(to)]));

it('finds no cycle in a diamond', () => {
  expect(findCycle(graph({ a: ['b', 'c'], b: ['d'], c: ['d'], d: [] }))).toEqual([]);
});

it('names the nodes of a cycle behind a tail', () => {
  expect(findCycle(graph({ a: ['b'], b: ['c'], c: ['d'], d: ['b'] }))).toEqual(['b', 'c', 'd', 'b']);
});

it('sees a file that imports itself', () => {
  expect(findCycle(graph({ a: ['a'] }))).toEqual(['a', 'a']);
});
