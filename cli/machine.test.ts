/** Machines by name: catalogs, and those that were measured with their own stack. */
import { expect, test } from 'vitest';
import { DEFAULT_STACK } from '../sim/hardware/load.ts';
import { measuredNames, namedMachine, namedProfile } from './machine.ts';

test('a measured machine brings the stack that was fitted with it', () => {
  expect(measuredNames()).toContain('h100-measured');
  for (const name of measuredNames()) {
    const { profile, stack, stackName } = namedMachine(name, undefined);
    expect(stackName).toBe(name);
    expect(profile.calibration).toBeDefined();
    expect(namedProfile(name, 'transfer')).toEqual(profile);
    expect(Object.keys(stack.kernels ?? {}).length).toBeGreaterThan(0);
  }
});

test('another stack is taken when it is asked for', () => {
  expect(namedMachine('h100-measured', 'kvtier-kernels').stack.name).toBe('kvtier-kernels');
  expect(namedMachine('h100-sxm', undefined).stack.name).toBe(DEFAULT_STACK);
  expect(namedMachine('h100-sxm', 'h100-measured').stackName).toBe('h100-measured');
});

test('an unknown machine is named, with those that exist', () => {
  expect(() => namedMachine('h300-measured', undefined)).toThrow(
    /unknown hardware 'h300-measured': did you mean h100-measured/,
  );
  expect(() => namedMachine('abacus', undefined)).toThrow(/known: .*h100-sxm.*h100-measured/);
  expect(namedProfile('H100', 'to').name).toBe('h100-sxm');
});
