/** The Markdown of docs/ as roff: headings, paragraphs, lists, tables by their rows, and blocks of commands. */
import { verbatim, words } from './roff.ts';

export function manualOf(markdown: string): string {
  const out: string[] = ['.SH DESCRIPTION\n'];
  const lines = markdown.split('\n');
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    if (line.startsWith('```')) {
      const end = lines.indexOf('```', at + 1);
      out.push('.PP\n', verbatim(lines.slice(at + 1, end).join('\n')));
      at = end;
    } else out.push(...oneLine(line, lines[at - 1] ?? ''));
  }
  return out.join('');
}

function oneLine(line: string, before: string): string[] {
  if (line.startsWith('# ')) return [];
  const heading = /^##+ (.*)/.exec(line)?.[1];
  if (heading !== undefined) return [`.SH ${words(plain(heading).toUpperCase())}\n`];
  if (/^\|[-| ]+\|$/.test(line)) return [];
  if (line.startsWith('|')) return row(line, before);
  const item = /^- (.*)/.exec(line)?.[1];
  if (item !== undefined) return ['.IP \\(bu 2\n', `${words(plain(item))}\n`];
  if (line.trim() === '') return ['.PP\n'];
  return [`${words(plain(line.trim()))}\n`];
}

/** The first row of a table names its columns; in a manual page the rows speak for themselves. */
function row(line: string, before: string): string[] {
  if (!before.startsWith('|')) return [];
  const [head, ...rest] = line
    .split('|')
    .slice(1, -1)
    .map((cell) => words(plain(cell.trim())));
  return [
    `.TP\n${head === '' ? '\\&' : head}\n`,
    `${rest.filter((cell) => cell !== '').join('. ') || '\\&'}\n`,
  ];
}

/** Links by their words, without the marks of code and weight. */
function plain(text: string): string {
  return text.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll(/`|\*\*/g, '');
}
