/** What differs between two documents, one thing in each line, such as `vms/web/priority: 3 -> 1`. Pure. */

const LINES_MAX = 100;
const VALUE_CHARACTERS_MAX = 120;

export function differences(before: unknown, after: unknown): string[] {
  const lines: string[] = [];
  compare(before, after, '', lines);
  if (lines.length <= LINES_MAX) return lines;
  return [...lines.slice(0, LINES_MAX), `and ${lines.length - LINES_MAX} more`];
}

function compare(before: unknown, after: unknown, path: string, lines: string[]): void {
  const [a, b] = [childrenOf(before), childrenOf(after)];
  if (a === undefined || b === undefined || Array.isArray(before) !== Array.isArray(after)) {
    const [from, to] = [shown(before), shown(after)];
    if (JSON.stringify(before) !== JSON.stringify(after)) lines.push(`${path}: ${from} -> ${to}`);
    return;
  }
  for (const key of new Set([...a.keys(), ...b.keys()])) {
    const at = path === '' ? key : `${path}/${key}`;
    if (!b.has(key)) lines.push(`${at}: ${shown(a.get(key))} is taken out`);
    else if (a.has(key)) compare(a.get(key), b.get(key), at, lines);
    else lines.push(`${at}: ${shown(b.get(key))} is added`);
  }
}

/** Items of lists of names are known by their values: one that is added in front moves no other. */
function childrenOf(value: unknown): Map<string, unknown> | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  if (!Array.isArray(value)) return new Map(Object.entries(value));
  const isOfNames = value.every((item) => typeof item === 'string');
  return new Map(value.map((item: unknown, index) => [isOfNames ? String(item) : String(index), item]));
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length <= VALUE_CHARACTERS_MAX ? text : `${text.slice(0, VALUE_CHARACTERS_MAX)}...`;
}
