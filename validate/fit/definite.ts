/** Inverse of a symmetric positive definite matrix by its Cholesky factor (Golub and Van Loan, Matrix Computations, 4.2). */

/** The lower factor L of L·Lᵀ: row-major [n, n]. */
const factorOf = (matrix: Float64Array, n: number): Float64Array => {
  const lower = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j];
      for (let k = 0; k < j; k++) sum -= lower[i * n + k] * lower[j * n + k];
      lower[i * n + j] = i === j ? Math.sqrt(sum) : sum / lower[j * n + j];
    }
  return lower;
};

/** Of a symmetric positive definite matrix, row-major [n, n]; NaN where it is not. About n³ multiply-adds. */
export const inverseOfDefinite = (matrix: Float64Array, n: number): Float64Array => {
  const lower = factorOf(matrix, n);
  // Row j of `across` is column j of the factor's inverse.
  const across = new Float64Array(n * n);
  for (let j = 0; j < n; j++) {
    across[j * n + j] = 1 / lower[j * n + j];
    for (let i = j + 1; i < n; i++) {
      let sum = 0;
      for (let k = j; k < i; k++) sum -= lower[i * n + k] * across[j * n + k];
      across[j * n + i] = sum / lower[i * n + i];
    }
  }
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = 0;
      for (let k = i; k < n; k++) sum += across[i * n + k] * across[j * n + k];
      out[i * n + j] = sum;
      out[j * n + i] = sum;
    }
  return out;
};
