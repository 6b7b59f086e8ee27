/** Text as roff takes it: nothing that a text says is a request or an escape. */

export function title(name: string, section: number): string {
  return `.TH ${words(name.toUpperCase())} ${section} "" Antipode Antipode\n`;
}

/** Of one line. */
export function words(text: string): string {
  const escaped = text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll("'", String.raw`\(aq`)
    .replaceAll('`', String.raw`\(ga`)
    .replaceAll('^', String.raw`\(ha`)
    .replaceAll('~', String.raw`\(ti`)
    .replaceAll(/[^\t -~]/gu, (letter) => `\\[u${codeOf(letter)}]`);
  return /^[.']/.test(escaped) ? String.raw`\&${escaped}` : escaped;
}

function codeOf(letter: string): string {
  return letter.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0');
}

/** As it stands, line by line. */
export function verbatim(text: string): string {
  const lines = text.trimEnd().split('\n').map(words);
  return `.nf\n${lines.join('\n')}\n.fi\n`;
}
