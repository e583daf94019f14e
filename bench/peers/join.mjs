// `node bench/peers/join.mjs OURS.json TORCH.jsonl [--out FOLDER]`: rows of `matgan bench --out` and of torch_peer.py from
// the same card, as one table and one page.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join as path } from 'node:path';
import { parseArgs } from 'node:util';
import { join, parseRows } from './rows.mjs';

const usage = 'usage: node bench/peers/join.mjs OURS.json TORCH.jsonl [--out FOLDER]';
const stop = (text) => {
  process.stderr.write(`join: ${text}\n`);
  process.exit(2);
};
let files;
let out;
try {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } });
  files = positionals;
  out = values.out;
} catch (error) {
  stop(`${error.message}; ${usage}`);
}
if (files.length !== 2) stop(usage);
let report;
try {
  const [ours, peers] = files.map((file) => parseRows(readFileSync(file, 'utf8'), file));
  const about = peers.find(({ name }) => name === 'about');
  const rows = join(ours, peers);
  if (rows.length === 0) throw new Error(`${files[1]}: no row has a mode; is it of torch_peer.py?`);
  report = { made: { ours: files[0], theirs: files[1], torch: about ?? 'unknown' }, rows };
} catch (error) {
  stop(error.message);
}
const { register } = await import('tsx/esm/api');
register();
const { reportPage, terminal } = await import('./report.ts');
process.stdout.write(terminal(report));
if (out) {
  mkdirSync(out, { recursive: true });
  writeFileSync(path(out, 'peers.json'), `${JSON.stringify(report, null, 1)}\n`);
  writeFileSync(path(out, 'peers.html'), reportPage(report));
  process.stderr.write(`${path(out, 'peers.html')}\n`);
}
