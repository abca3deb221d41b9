/** Flags of programs for developers: what is wrong is one line, and never a run of nothing. */
import { expect, it } from 'vitest';
import { backendOf, integerOf, kernelsOf } from './tool-flags.ts';

it('takes what is right', () => {
  expect(backendOf('cpu')).toBe('cpu');
  expect(kernelsOf('copy,merge')).toEqual(['copy', 'merge']);
  expect(kernelsOf(undefined)).toContain('attend');
  expect(integerOf('cases', '15', 1)).toBe(15);
});

it('names what is wrong', () => {
  expect(() => backendOf('opencl')).toThrow('--backend opencl: expected one of cuda, cpu, reference');
  expect(() => kernelsOf('copy,none')).toThrow('--kernels none: expected names of kernels/calls');
  for (const text of ['abc', '', '1.5', '0'])
    expect(() => integerOf('cases', text, 1)).toThrow(`--cases ${text}: expected an integer of 1 or more`);
});
