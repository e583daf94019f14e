/** A table of latent vectors, written as they come. */
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import type { PackedFormulas } from '../chem/encoding.ts';
import { rowElements } from '../chem/encoding.ts';
import { formulaText } from '../chem/rows.ts';
import { type ColumnType, cannotWrite, checkOutput, convertCsv, isPlainCsv, temporaryBeside } from '../chem/tables.ts';
import type { Codec } from './codec.ts';
import type { SetName, StudySets } from './study.ts';

/**
 * Encodes all rows and writes `formula`, `elements`, `set` and the components `z0`, `z1`, … of their latent vectors, nine digits
 * each (which tell any two f32 apart); the ending of the name decides on the form. Memory does not grow with the rows.
 * @throws DataError where it cannot be written; then nothing is left of it
 */
export async function writeLatents(
  file: string,
  codec: Codec,
  sets: StudySets,
  onProgress: (rows: number) => void = () => {},
): Promise<number> {
  await checkOutput(file);
  const [csv, converted] = [temporaryBeside(file), temporaryBeside(file)];
  const columns: Record<string, ColumnType> = { formula: 'text', elements: 'integer', set: 'text' };
  for (let k = 0; k < codec.latent; k++) columns[`z${k}`] = 'real';
  let handle: number | undefined;
  const write = (text: string): void => {
    const bytes = Buffer.from(text);
    for (let at = 0; at < bytes.length; ) at += writeSync(handle!, bytes, at);
  };
  try {
    handle = openSync(csv, 'wx');
    write(`${Object.keys(columns).join(',')}\n`);
    let rows = 0;
    for (const [name, formulas] of Object.entries(sets) as [SetName, PackedFormulas][]) {
      await codec.encode(formulas, (latents, from, count) => {
        let text = '';
        for (let i = 0; i < count; i++) {
          text += `${formulaText(formulas.packed, from + i)},${rowElements(formulas.packed, from + i)},${name}`;
          for (let k = 0; k < codec.latent; k++) text += `,${Number(latents[i * codec.latent + k].toPrecision(9))}`;
          text += '\n';
        }
        write(text);
        rows += count;
        onProgress(rows);
      });
    }
    closeSync(handle);
    handle = undefined;
    if (isPlainCsv(file)) renameSync(csv, file);
    else {
      await convertCsv(csv, columns, file, converted);
      renameSync(converted, file);
    }
    return rows;
  } catch (error) {
    throw cannotWrite(file, error);
  } finally {
    if (handle !== undefined) closeSync(handle);
    for (const path of [csv, converted]) rmSync(path, { force: true });
  }
}
