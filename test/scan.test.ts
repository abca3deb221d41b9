/** The scanner behind the architecture rules: what counts as code and as an import. */
import { describe, expect, it } from 'vitest';
import { codeOf, importsOf, resolveImport } from './scan.ts';

const squeeze = (text: string): string => codeOf(text).replace(/\s+/g, ' ').trim();

describe('codeOf', () => {
  it('blanks comments, strings and regular expressions, and keeps length and lines', () => {
    const text = `const a = 'Math.random()'; // Date\n/* process\n*/ const b = /Date['"]/g;\n`;
    expect(codeOf(text)).toHaveLength(text.length);
    expect(codeOf(text).split('\n')).toHaveLength(text.split('\n').length);
    expect(codeOf(text)).not.toMatch(/Math|Date|process/);
  });

  it('keeps the expressions inside a template, nested ones too', () => {
    expect(squeeze(`f(\`Date \${now({ a: \`x \${Math.random()} y\` })} Date\`) + z`)).toMatch(
      /now\(.*Math\.random\(\).*\+ z$/,
    );
    expect(codeOf(`\`Date \${1}\``)).not.toMatch('Date');
  });

  it('tells a division from a regular expression', () => {
    expect(squeeze("const r = a / b / Date.now(); const s = 'x';")).toMatch('Date.now()');
    expect(squeeze('return /Date/.test(x)')).not.toMatch('Date');
  });

  it('survives escapes', () => {
    expect(squeeze("const q = '\\'Date'; const d = Date;")).toMatch(/const d = Date;$/);
  });
});

describe('importsOf', () => {
  const imports = (text: string): readonly string[] => importsOf(text, codeOf(text));

  it('finds every form of import, over several lines too', () => {
    expect(
      imports(`import './a.ts';\nimport type { B } from './b.ts';\nexport * from "./c.ts";\nconst d = await import('./d.ts');
import {
  e,
} from './e.ts';`),
    ).toEqual(['./a.ts', './b.ts', './c.ts', './d.ts', './e.ts']);
  });

  it('ignores imports in comments and strings', () => {
    expect(imports(`// import x from 'no'\nconst s = "import y from 'no'";`)).toEqual([]);
  });

  it('resolves relative paths only', () => {
    expect(resolveImport('sim/timing/cost.ts', '../error.ts')).toBe('sim/error.ts');
    expect(resolveImport('sim/timing/cost.ts', 'zod')).toBeUndefined();
  });
});
