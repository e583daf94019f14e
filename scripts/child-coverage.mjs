// Loaded into every process below `npm run coverage` (NODE_OPTIONS=--import): in those that run bin/matgan.mjs it writes
// down at the end which code of src/ ran, with that code as tsx made it, for scripts/coverage.mjs to add to the tests' own.
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';

const folder = process.env.MATGAN_CHILD_COVERAGE;
if (folder && process.argv[1]?.endsWith('matgan.mjs')) {
  const source = new URL('../src/', import.meta.url).href;
  const session = new Session();
  session.connect();
  /** Sessions of a process with itself answer before post() returns. */
  const ask = (method, params) => {
    let answer;
    session.post(method, params, (error, result) => {
      if (error) throw error;
      answer = result;
    });
    return answer;
  };
  ask('Profiler.enable');
  ask('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  ask('Debugger.enable');
  process.on('exit', () => {
    const scripts = ask('Profiler.takePreciseCoverage').result.filter(({ url }) => url.startsWith(source));
    const withCode = scripts.map(({ scriptId, url, functions }) => {
      const code = ask('Debugger.getScriptSource', { scriptId }).scriptSource;
      return { url: url.replace(/\?.*$/, ''), functions, code };
    });
    if (withCode.length > 0) writeFileSync(join(folder, `${process.pid}-${Date.now()}.json`), JSON.stringify(withCode));
  });
}
