/** How published and simulated numbers are written for people: the same digits in the terminal and on the page. */

/** Three or four significant digits, without an exponent. */
export const writeNumber = (value: number): string => {
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 10 ? 2 : 3;
  return value.toFixed(digits);
};

/** A ratio as signed per cent, one decimal. */
export const writeError = (ratio: number | null): string =>
  ratio === null ? '–' : `${ratio < 0 ? '−' : '+'}${(100 * Math.abs(ratio)).toFixed(1)} %`;

/** A ratio as per cent without sign. */
export const writeShare = (ratio: number | null): string =>
  ratio === null ? '–' : `${(100 * ratio).toFixed(1)} %`;
