/** Tables: widths, alignment, wrapping. */
import { expect, it } from 'vitest';
import { renderTable, widthOf } from './table.ts';

it('makes columns as wide as their content and puts numbers to the right', () => {
  expect(
    renderTable(
      ['name', 'bytes'],
      [
        ['a', '1'],
        ['longer', '12345678'],
      ],
      { columns: 80, right: [1] },
    ),
  ).toBe(['name       bytes', '──────  ────────', 'a              1', 'longer  12345678'].join('\n'));
});

it('wraps the last column at spaces and keeps within the width', () => {
  const text = renderTable(['x', 'y'], [['a', 'one two three four five six seven']], { columns: 20 });
  expect(Math.max(...text.split('\n').map(widthOf))).toBeLessThanOrEqual(20);
  expect(text.replace(/\s+/g, ' ')).toContain('one two three four five six seven');
});

it('counts combining marks and wide characters as a terminal does', () => {
  expect(widthOf('e\u0301')).toBe(1);
  expect(widthOf('日本')).toBe(4);
});
