/** Every shipped profile and stack is valid and honest; bad ones are refused with one line that names the field. */
import { describe, expect, it } from 'vitest';
import {
  listProfiles,
  listStacks,
  loadProfile,
  loadStack,
  profileNames,
  stackNames,
  statusesOf,
} from './load.ts';

const copyOf = (name: string): Record<string, unknown> =>
  structuredClone(loadProfile(name)) as Record<string, unknown>;

/** Sets `path` (dots) of a copy of the H100 profile to a value. */
const edited = (path: string, value: unknown): object => {
  const profile = copyOf('h100-sxm');
  const keys = path.split('.');
  let at = profile;
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
  at[keys[keys.length - 1]] = value;
  return profile;
};

describe('shipped profiles', () => {
  it('include the machines that the documents promise', () => {
    const promised = [
      'h100-sxm',
      'h100-pcie',
      'h200-sxm',
      'a100-80-sxm',
      'a100-80-pcie',
      'l40s',
      'rtx-4090',
      'gh200',
    ];
    expect(profileNames).toEqual(expect.arrayContaining([...promised, 'rtx-pro-6000', 'b200', 'mi300x']));
  });

  it.each(profileNames)('%s carries its own name and a source for every number', (name) => {
    const profile = loadProfile(name);
    expect(profile.name).toBe(name);
    const visit = (part: unknown, path: string): void => {
      if (typeof part === 'number') throw new Error(`${path} is a bare number`);
      if (typeof part !== 'object' || part === null) return;
      if ('value' in part && 'status' in part) {
        if (part.status === 'assumed') expect(part, path).toHaveProperty('how');
        return;
      }
      for (const [key, value] of Object.entries(part)) visit(value, `${path}.${key}`);
    };
    visit(profile, name);
    expect(statusesOf(profile).length).toBeGreaterThan(50);
  });

  it('are found by alias, case and underscores aside', () => {
    expect(loadProfile('h100_sxm').name).toBe('h100-sxm');
    expect(loadProfile('H100').name).toBe('h100-sxm');
    expect(loadProfile('A100').name).toBe('a100-80-sxm');
  });

  it('share no name or alias', () => {
    const all = listProfiles().flatMap(({ name, aliases }) => [name, ...aliases]);
    expect(new Set(all).size).toBe(all.length);
  });

  it('survive a round trip through JSON', () => {
    for (const name of profileNames) {
      expect(loadProfile(JSON.parse(JSON.stringify(loadProfile(name))), 'copy.json')).toEqual(
        loadProfile(name),
      );
    }
  });
});

describe('stacks', () => {
  it('load by name and alias, with a default', () => {
    expect(stackNames).toContain(loadStack().name);
    expect(loadStack('hf').name).toBe('transformers-eager');
    expect(listStacks().map(({ name }) => name)).toEqual(stackNames);
  });
});

describe('bad profiles', () => {
  const negative = { value: -3350, status: 'datasheet', source: 'x', date: '2026-01' };
  it.each([
    ['accelerator.hbm.peakBytesPerNs', negative, /mine\.json: field accelerator\.hbm\.peakBytesPerNs\.value/],
    ['link.h2dBytesPerNs', { ...negative, value: 0 }, /field link\.h2dBytesPerNs\.value: .*>0/],
    [
      'link.h2dBytesPerNs',
      { ...negative, value: 100 },
      /expected at most link\.peakBytesPerNs \(63\), got 100/,
    ],
    [
      'accelerator.hbm.achievedBytesPerNs',
      { ...negative, value: 9000 },
      /expected at most hbm\.peakBytesPerNs/,
    ],
    ['accelerator.sms', 132, /field accelerator\.sms: /],
    ['accelerator.sms', { value: 132 }, /field accelerator\.sms\.status/],
    ['link.kind', 'usb', /field link\.kind/],
    ['linkk', {}, /linkk/],
    ['format', 'kvtier.hardware/9', /field format/],
  ])('%s = %j is refused with one line', (path, value, message) => {
    const load = () => loadProfile(edited(path, value), 'mine.json');
    expect(load).toThrow(message);
    expect(load).toThrow(/^[^\n]*$/);
  });

  it('refuses what is no profile, and suggests names', () => {
    expect(() => loadProfile({}, 'empty.json')).toThrow(/hardware empty\.json: field format/);
    expect(() => loadProfile('h100-sxn')).toThrow(/unknown hardware 'h100-sxn': did you mean h100-sxm/);
    expect(() => loadStack('flashinfr')).toThrow(/unknown stack .*flashinfer-graphs/);
  });
});
