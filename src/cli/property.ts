import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Executor } from '../autograd/executor.ts';
import { elementCount } from '../chem/encoding.ts';
import { DataError } from '../errors.ts';
import { uncertainty } from '../models/calibration.ts';
import type { Checkpoint } from '../models/checkpoint.ts';
import type { ElemNetConfig } from '../models/config.ts';
import { reason, replaceFile } from '../models/files.ts';
import { propertyModel } from '../models/predictor.ts';
import { fractionsOf, type TableRows, targetsOf } from '../models/table.ts';
import { chartFile } from '../report/chart.ts';
import { pngWriter } from '../report/png.ts';
import { type Judged, type PropertyReport, propertyCharts, propertyReport } from '../report/property.ts';
import { consoleTable, percent } from '../report/table.ts';
import { note } from './common.ts';

/** Number of elements of each row of fractions. */
const elementsOf = (fractions: Float32Array): number[] =>
  Array.from({ length: fractions.length / elementCount }, (_, row) => {
    let n = 0;
    for (let e = 0; e < elementCount; e++) if (fractions[row * elementCount + e] > 0) n++;
    return n;
  });

/** Predicts rows whose truth is known. */
export async function judge(
  executor: Executor,
  checkpoint: Checkpoint,
  table: TableRows,
): Promise<{ report: PropertyReport; judged: Judged }> {
  const model = await propertyModel(executor, checkpoint);
  try {
    const fractions = fractionsOf(table);
    const { values, spreads } = await model.run(fractions);
    const uncertainties = spreads.map((spread) => uncertainty(spread, model.calibration));
    const judged = { values, uncertainties, truth: targetsOf(table), elements: elementsOf(fractions) };
    const { target } = checkpoint.config as ElemNetConfig;
    return { judged, report: propertyReport(target, judged, model.calibration) };
  } finally {
    model.destroy();
  }
}

/** Makes the folder of `--report`. @throws DataError where it cannot be made */
export function makeReportFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (cause) {
    throw new DataError(`--report ${folder}: it cannot be made (${reason(cause)})`, { cause });
  }
}

/**
 * Writes properties.json, parity and, of a model with uncertainties, calibration (SVG, and PNG where it can be drawn) into a folder
 * that is there.
 */
export async function writeReport(folder: string, report: PropertyReport, judged: Judged): Promise<void> {
  const text = (content: string): Uint8Array[] => [Buffer.from(content)];
  const { write, problem } = await pngWriter();
  if (problem) note(problem);
  for (const [name, chart] of Object.entries(propertyCharts(report, judged))) {
    const svg = chartFile(chart);
    replaceFile(join(folder, `${name}.svg`), text(svg));
    if (write) replaceFile(join(folder, `${name}.png`), [write(svg)]);
  }
  replaceFile(join(folder, 'properties.json'), text(`${JSON.stringify(report, null, 2)}\n`));
}

/** A report for people. */
export function reportText(report: PropertyReport): string {
  const { rows, mae, rmse, r2, maeOfMean, byElements, within } = report;
  const all = [
    ['mean absolute error', mae],
    ['root mean square error', rmse],
    ['R²', r2],
    ['mean absolute error of saying the mean', maeOfMean],
    ...Object.entries(byElements ?? {}).map(([n, errors]) => [`${n} elements: ${errors.rows} rows`, errors.mae]),
  ] as const;
  const table = consoleTable([`${rows} rows`, ''], all);
  return within ? `${table}\nwithin 1, 2, 3 uncertainties: ${within.map(percent).join(', ')}` : table;
}
