/** Names that look like the one asked for. */
import { describe, expect, it } from 'vitest';
import { firstIssue, nearNames, unknownName } from './near-names.ts';

const known = ['a100-80-sxm', 'h100-pcie', 'h100-sxm', 'h200-sxm', 'rtx-4090'];

describe('nearNames', () => {
  it('finds slips, parts and beginnings', () => {
    expect(nearNames('h100sxm', known)[0]).toBe('h100-sxm');
    expect(nearNames('h100-sxn', known)[0]).toBe('h100-sxm');
    expect(nearNames('4090', known)).toEqual(['rtx-4090']);
    expect(nearNames('h101', known)).toContain('h100-sxm');
  });

  it('finds nothing for what looks like none', () => {
    expect(nearNames('gaudi-three', known)).toEqual([]);
  });
});

describe('messages', () => {
  it('name near names, or all of them', () => {
    expect(unknownName('hardware', 'rtx4090', known, 'hardware').message).toMatch(/did you mean rtx-4090\?/);
    expect(unknownName('hardware', 'gaudi-three', known, 'hardware').message).toMatch(/known: a100-80-sxm, /);
  });

  it('say field and expectation of the first issue', () => {
    const issue = { path: ['link', 'h2d'], message: 'expected a number' };
    expect(firstIssue([issue])).toBe('field link.h2d: expected a number');
    expect(firstIssue([issue, issue])).toMatch(/\(and 1 more\)$/);
  });
});
