import Table from 'cli-table3';

export type Cell = string | number | null | undefined;

/** Whole numbers with thousands separated, others with four significant digits, nothing for nothing. */
function show(cell: Cell): string {
  if (cell === null || cell === undefined) return '';
  if (typeof cell === 'string') return cell;
  return cell.toLocaleString('en', Number.isInteger(cell) ? {} : { maximumSignificantDigits: 4 });
}

/** A table for the console: the first `textColumns` columns are aligned left, the rest, numbers, right. */
export function consoleTable(head: readonly string[], rows: readonly (readonly Cell[])[], textColumns = 1): string {
  const table = new Table({
    head: [...head],
    style: { head: [], border: [] },
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    colAligns: head.map((_, i) => (i < textColumns ? 'left' : 'right')),
  });
  for (const row of rows) table.push(row.map(show));
  return table.toString();
}

/** A share as a percentage with one decimal; an empty string where there is none. */
export const percent = (value: number | null | undefined): string =>
  value === null || value === undefined ? '' : `${(100 * value).toFixed(1)} %`;
