// Adds up the reports of vitest (JSON) and pytest (JUnit XML) into one line, `N passed, N failed`; exits 1 when
// anything failed. A report that is missing or empty is a failure: its runner died before it could count.
import { readFileSync } from 'node:fs';

const readVitest = (path) => {
  const report = JSON.parse(readFileSync(path, 'utf8'));
  // A file that does not load has no test to fail; it counts as one.
  const unloaded = report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  );
  return { passed: report.numPassedTests, failed: report.numFailedTests + unloaded.length };
};

const readPytest = (path) => {
  const suite = /<testsuite\b[^>]*>/.exec(readFileSync(path, 'utf8'))?.[0] ?? '';
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(suite)?.[1] ?? 0);
  const failed = count('failures') + count('errors');
  return { passed: count('tests') - failed - count('skipped'), failed };
};

const counted = (read, path) => {
  try {
    const counts = read(path);
    return counts.passed + counts.failed > 0 ? counts : { passed: 0, failed: 1 };
  } catch (error) {
    process.stderr.write(`${path}: no report (${error.message})\n`);
    return { passed: 0, failed: 1 };
  }
};

const [vitestPath, pytestPath] = process.argv.slice(2);
const vitest = counted(readVitest, vitestPath);
const pytest = counted(readPytest, pytestPath);
const failed = vitest.failed + pytest.failed;
process.stdout.write(`${vitest.passed + pytest.passed} passed, ${failed} failed\n`);
process.exitCode = failed > 0 ? 1 : 0;
