/** `kvtier list`: every kind prints its rows as JSON and as a table, from the catalogs. */
import { describe, expect, it } from 'vitest';
import { recordedContext } from '../test/recorded-context.ts';
import { verb } from './list.ts';

const list = async (
  kind: string,
  name?: string,
): Promise<{ document: Record<string, unknown>; text: string }> => {
  const { context, documents, lines } = recordedContext();
  await verb.run(verb.flags.parse({ kind, name }), context);
  return { document: documents[0] as Record<string, unknown>, text: `${lines.join('\n')}\n` };
};

const rowsOf = (document: Record<string, unknown>, kind: string): readonly Record<string, unknown>[] =>
  document[kind] as readonly Record<string, unknown>[];

describe('kvtier list', () => {
  it.each(verb.flags.shape.kind.options)('%s: one document, one table, names in order', async (kind) => {
    const { document, text } = await list(kind);
    expect(Object.keys(document)).toEqual([kind]);
    const names = rowsOf(document, kind).map((row) => row.name as string);
    expect(names.length).toBeGreaterThan(0);
    expect(names).toEqual([...names].sort());
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(text).toContain(name);
    expect(JSON.parse(JSON.stringify(document))).toEqual(document);
  });

  it('shows the parameters of a policy with kind, default and meaning', async () => {
    const { document, text } = await list('policies', 'quest');
    const [quest] = rowsOf(document, 'policies');
    expect(quest.parameters).toContainEqual({
      name: 'pageTokens',
      type: 'number',
      default: 16,
      description: expect.any(String),
    });
    expect(text).toMatch(/pageTokens\s+number\s+16/);
  });

  it('describes every parameter of every policy and eviction rule, and gives it a default', async () => {
    for (const kind of ['policies', 'evictions']) {
      const { document } = await list(kind);
      for (const row of rowsOf(document, kind)) {
        for (const parameter of (row.parameters ?? []) as readonly Record<string, unknown>[]) {
          expect(parameter.description, `${row.name}.${parameter.name}`).not.toBe('');
          expect(parameter, `${row.name}.${parameter.name}`).toHaveProperty('default');
        }
      }
    }
  });

  it('names what is near when a name does not exist', async () => {
    await expect(list('policies', 'qest')).rejects.toThrow(/unknown policy 'qest': did you mean quest/);
  });
});
