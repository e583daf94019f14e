// The last lines of .ci/run: what failed, by name, then the count. Arguments: vitest's JSON report, how many earlier
// steps failed, and whether the test step itself did (1) or not (0).
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

/**
 * @param {object | null} report vitest's JSON report, null where there is none
 * @param {number} failedSteps earlier steps that failed
 * @param {boolean} stepFailed whether the test step ended with an error
 * @returns {{passed: number, failed: number, skipped: number, notes: string[]}}
 */
export function count(report, failedSteps, stepFailed) {
  let [passed, failed, skipped] = [0, 0, 0];
  const notes = [];
  const files = report?.testResults ?? [];
  for (const file of files) {
    const tests = file.assertionResults ?? [];
    const broken = tests.filter((test) => test.status === 'failed');
    passed += tests.filter((test) => test.status === 'passed').length;
    skipped += tests.filter((test) => !['passed', 'failed'].includes(test.status)).length;
    failed += broken.length;
    for (const test of broken) notes.push(`failed: ${file.name}: ${test.fullName}`);
    // A file that could not even be loaded has no tests to fail.
    if (file.status === 'failed' && broken.length === 0) {
      failed++;
      notes.push(`failed: ${file.name}: ${(file.message ?? '').split('\n')[0] || 'the file could not be run'}`);
    }
  }
  if (passed + failed === 0) {
    failed++;
    notes.push(report ? 'failed: no test ran' : 'failed: the tests left no report');
  } else if (stepFailed && failed === 0) {
    // An unhandled error after the last test, or the time limit.
    failed++;
    notes.push('failed: the test run itself ended with an error');
  }
  failed += failedSteps;
  return { passed, failed, skipped, notes };
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [file, failedSteps, stepFailed] = process.argv.slice(2);
  let report = null;
  try {
    report = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    // count() says so.
  }
  const { passed, failed, skipped, notes } = count(report, Number(failedSteps), stepFailed !== '0');
  for (const note of notes) console.log(note);
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  process.exitCode = failed === 0 ? 0 : 1;
}
