/** The name that someone probably meant: nearest by edit distance, or none when nothing is near. */

/** Optimal string alignment distance: insertions, deletions, substitutions, swaps of neighbours. */
const distance = (a: string, b: string): number => {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => {
    const row = new Array<number>(b.length + 1).fill(0);
    row[0] = i;
    return row;
  });
  for (let j = 0; j <= b.length; j++) rows[0][j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, rows[i - 2][j - 2] + 1);
      }
      rows[i][j] = best;
    }
  }
  return rows[a.length][b.length];
};

/** Nearest of `names` within 40 % of the longer word's letters (at least two); ties go to the first. */
export const nearest = (word: string, names: readonly string[]): string | undefined => {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const name of names) {
    const d = distance(word.toLowerCase(), name.toLowerCase());
    if (d < bestDistance && d <= Math.max(2, Math.floor(0.4 * Math.max(word.length, name.length)))) {
      best = name;
      bestDistance = d;
    }
  }
  return best;
};

/** `, did you mean 'x'?` or nothing; to end an error line with. */
export const didYouMean = (word: string, names: readonly string[]): string => {
  const name = nearest(word, names);
  return name === undefined ? '' : `, did you mean '${name}'?`;
};
