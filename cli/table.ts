/** Plain tables for the terminal: columns as wide as their content, numbers to the right, the last column wrapped to fit. */

export interface TableOptions {
  /** Width to keep within, in terminal columns. */
  readonly columns: number;
  /** Positions of the columns whose cells stand to the right. */
  readonly right?: readonly number[];
}

const GAP = '  ';

/** Width in terminal cells: combining marks take none, wide East Asian characters take two. */
export const widthOf = (text: string): number => {
  let width = 0;
  for (const char of text) {
    const code = char.codePointAt(0) ?? 0;
    if (/\p{Mn}/u.test(char)) continue;
    width +=
      (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xffe6 && code < 0xff61) ? 2 : 1;
  }
  return width;
};

const pad = (text: string, width: number, right: boolean): string => {
  const space = ' '.repeat(Math.max(0, width - widthOf(text)));
  return right ? space + text : text + space;
};

/** Breaks a text at spaces into lines of at most `width` cells; a longer word stays whole. */
const wrap = (text: string, width: number): readonly string[] => {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const joined = lines.length === 0 ? word : `${lines[lines.length - 1]} ${word}`;
    if (lines.length > 0 && widthOf(joined) <= width) lines[lines.length - 1] = joined;
    else lines.push(word);
  }
  return lines;
};

/** Lines of a table under a header and a rule; no trailing spaces. */
export const renderTable = (
  header: readonly string[],
  rows: readonly (readonly string[])[],
  options: TableOptions,
): string => {
  const right = new Set(options.right ?? []);
  const widths = header.map((name, at) =>
    Math.max(widthOf(name), ...rows.map((row) => widthOf(row[at] ?? ''))),
  );
  const last = widths.length - 1;
  const before = widths.slice(0, last).reduce((sum, width) => sum + width + GAP.length, 0);
  widths[last] = Math.min(widths[last], Math.max(16, options.columns - before));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, at) => pad(cell, widths[at], right.has(at)))
      .join(GAP)
      .trimEnd();
  const lines = (cells: readonly string[]): readonly string[] =>
    wrap(cells[last] ?? '', widths[last]).map((text, at) =>
      line([...cells.slice(0, last).map((cell) => (at === 0 ? cell : '')), text]),
    );
  return [line(header), widths.map((width) => '─'.repeat(width)).join(GAP), ...rows.flatMap(lines)].join(
    '\n',
  );
};
