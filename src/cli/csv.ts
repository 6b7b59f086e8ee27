/** Comma-separated values (RFC 4180): cells in quotes may hold commas, quotes and line ends. Pure. */
import { Failure } from '#/lib/failure.ts';

export type CsvRow = { line: number; cells: string[] };

/** Throws usage_invalid with the line for a quote that does not end, and for more than `rowsMax` rows. */
export function parseCsv(text: string, name: string, rowsMax: number): CsvRow[] {
  const rows: CsvRow[] = [];
  const input = text.replace(/^\uFEFF/, '');
  let [line, position] = [1, 0];
  while (position < input.length) {
    const row: CsvRow = { line, cells: [] };
    for (let isMore = true; isMore;) {
      const cell = cellAt(input, position);
      if (cell === undefined) {
        throw new Failure('usage_invalid', `${name}:${line}: a quote begins here and does not end`);
      }
      row.cells.push(cell.text);
      line += input.slice(position, cell.end).split('\n').length - 1;
      position = cell.end;
      isMore = input[position] === ',';
      if (isMore) position++;
    }
    const end = /^\r?\n/.exec(input.slice(position, position + 2))?.[0];
    if (end === undefined && position < input.length) {
      throw new Failure('usage_invalid', `${name}:${line}: something follows a quoted cell`);
    }
    position += end?.length ?? 0;
    line++;
    if (row.cells.some((cell) => cell !== '')) rows.push(row);
    if (rows.length > rowsMax) throw new Failure('usage_invalid', `${name} has more than ${rowsMax} rows`);
  }
  return rows;
}

export function csvText(rows: readonly (readonly string[])[]): string {
  return rows.map((cells) => `${cells.map(quoted).join(',')}\r\n`).join('');
}

function cellAt(input: string, start: number): { text: string; end: number } | undefined {
  if (input[start] !== '"') {
    let end = start;
    while (end < input.length && !',\r\n'.includes(input[end]!)) end++;
    return { text: input.slice(start, end), end };
  }
  for (let end = input.indexOf('"', start + 1); end !== -1; end = input.indexOf('"', end + 2)) {
    if (input[end + 1] !== '"')
      return { text: input.slice(start + 1, end).replaceAll('""', '"'), end: end + 1 };
  }
  return undefined;
}

function quoted(cell: string): string {
  return /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}
