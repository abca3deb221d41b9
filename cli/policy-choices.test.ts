/** Policies as the command line names them: parameters, combinations, settings, and what is said of wrong ones. */
import { describe, expect, it } from 'vitest';
import { splitList } from './flags.ts';
import { choosePolicies } from './policy-choices.ts';

const configOf = async (entry: string, sets: readonly string[] = []) =>
  (await choosePolicies([entry], sets)).choices[0];

describe('--policies', () => {
  it('fills every default, and lets own parameters win over settings', async () => {
    const { label, name, config } = await configOf('quest:budgetTokens=64', [
      'quest.budgetTokens=128',
      'quest.page-tokens=8',
    ]);
    expect([label, name]).toEqual(['quest:budgetTokens=64', 'quest']);
    expect(config).toMatchObject({ budgetTokens: 64, pageTokens: 8, tier: 'hbm' });
  });

  it('reads a combination, its parts and settings for either', async () => {
    const text = 'stack(snapkv:budgetTokens=100;windowTokens=8,every(quest):n=2)';
    const { label, name, config } = await configOf(text, ['quest.tier=dram', 'every(quest).n=3']);
    expect(label).toBe(text);
    expect(name).toBe('stack(snapkv,every(quest))');
    expect(config).toMatchObject({
      snapkv: { budgetTokens: 100, windowTokens: 8, kernel: 5 },
      'every(quest)': { n: 2, quest: { tier: 'dram', budgetTokens: 2048 } },
    });
  });

  it('splits at commas outside brackets only', () => {
    expect(splitList('full,stack(snapkv,quest:x=1;y=2),per-head(a,b):heads=[0,1]')).toEqual([
      'full',
      'stack(snapkv,quest:x=1;y=2)',
      'per-head(a,b):heads=[0,1]',
    ]);
    expect(splitList('quest.layers=0,1,snapkv.kernel=3')).toEqual(['quest.layers=0,1', 'snapkv.kernel=3']);
  });

  it.each([
    ['stack(snapkv,qest)', /unknown policy 'qest': did you mean quest/],
    ['stak(snapkv,quest)', /unknown combinator 'stak': did you mean stack/],
    [
      'stack(snapkv,quest:budget=1)',
      /policy quest has no parameter 'budget' \(did you mean 'budgetTokens'\?\)/,
    ],
    ['stack(snapkv,quest:budgetTokens=0)', /budgetTokens/],
    ['stack(snapkv,quest', /closing bracket/],
    ['quest:budgetTokens', /param=value/],
    ['every(quest):n=0', /policy every\(quest\), parameter n: /],
  ])('%s is refused', async (entry, message) => {
    await expect(configOf(entry)).rejects.toThrow(message);
  });

  it('takes settings for chosen policies only', async () => {
    await expect(configOf('quest', ['snapkv.kernel=3'])).rejects.toThrow(/snapkv is not among --policies/);
    await expect(configOf('quest', ['quest=3'])).rejects.toThrow(/expected policy.param=value/);
  });
});
