/** Aligned columns for people. */

/** The last column is not padded. An empty table prints `nothing` instead. */
export function table(
  titles: readonly string[],
  rows: readonly (readonly string[])[],
  nothing: string,
): string {
  if (rows.length === 0) return `${nothing}\n`;
  const clean = rows.map((row) => row.map(printable));
  const widths = titles.map((title, column) =>
    Math.max(title.length, ...clean.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
      .join('  ')
      .trimEnd();
  return `${[titles, ...clean].map(line).join('\n')}\n`;
}

/** Names come from guests and other sites: nothing in them may steer the terminal. */
export function printable(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?');
}
