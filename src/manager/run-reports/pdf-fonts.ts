/**
 * Text of a PDF, split by the fonts that have its characters. Latin-1 is in the fonts that every reader has; all else
 * is in the first of the site's fonts that has it, embedded with the glyphs that are used (ISO 32000-1, 9.7, 9.9); what
 * none of them has is shown by its number, as in U+1F600, so that two names never look the same.
 *
 * Nothing is shaped: scripts that join letters or run from right to left are shown letter by letter.
 */
import { deflateSync } from 'node:zlib';
import type { TrueTypeFont } from './true-type.ts';

/** A piece of a line in one font; `text` is what stands in the page's commands. */
type Piece = { font: string; text: string };
type Adds = { object: (body: string) => number; stream: (entries: string, data: Uint8Array) => number };

/** Of characters that every reader's fonts have, in thousandths of the size: Courier's, and Helvetica's at most. */
const LATIN_WIDTH = 600;
const IS_LATIN = /^[\x20-\x7e\xa0-\xff]$/;
/** PDF takes so many characters of a font's map in one go. */
const MAP_LINES_MAX = 100;

export class PdfFonts {
  readonly #fonts: { font: TrueTypeFont; used: Map<number, { number: number; character: string }> }[];

  constructor(fonts: readonly TrueTypeFont[]) {
    this.#fonts = fonts.map((font) => ({ font, used: new Map() }));
  }

  /** The text with characters that no font has named by their numbers. Spaces of all kinds are one. */
  shown(text: string): string {
    return Array.from(text.replaceAll(/[\s\p{Cc}\p{Cf}]+/gu, ' '), (character) =>
      IS_LATIN.test(character) || this.#find(character) !== undefined ? character : numbered(character),
    ).join('');
  }

  /** Of a text that `shown` gave, in thousandths of the size. */
  widthOf(text: string): number {
    let width = 0;
    for (const character of text) {
      const found = IS_LATIN.test(character) ? undefined : this.#find(character);
      width += found === undefined ? LATIN_WIDTH : found.font.widthOf(found.glyph);
    }
    return width;
  }

  /** Of a text that `shown` gave. `latin` is the name of the font for what every reader has. */
  pieces(text: string, latin: string): Piece[] {
    const pieces: Piece[] = [];
    for (const character of text) {
      const [font, part] = IS_LATIN.test(character)
        ? [latin, character.replaceAll(/[\\()]/g, String.raw`\$&`)]
        : this.#use(character);
      const last = pieces.at(-1);
      if (last?.font === font) last.text += part;
      else pieces.push({ font, text: part });
    }
    return pieces.map(({ font, text: part }) => ({ font, text: font === latin ? `(${part})` : `<${part}>` }));
  }

  /** Adds the fonts that were used; answers what the pages' resources name. */
  addTo(adds: Adds): string {
    return this.#fonts
      .flatMap(({ font, used }, index) => {
        if (used.size === 0) return [];
        return [`/${nameOf(index)} ${addFont(adds, font, [...used])} 0 R`];
      })
      .join(' ');
  }

  #find(character: string): { font: TrueTypeFont; glyph: number; index: number } | undefined {
    for (const [index, { font }] of this.#fonts.entries()) {
      const glyph = font.glyphOf(character.codePointAt(0)!);
      if (glyph !== undefined) return { font, glyph, index };
    }
    return undefined;
  }

  #use(character: string): [string, string] {
    const { glyph, index } = this.#find(character)!;
    const { used } = this.#fonts[index]!;
    const known = used.get(glyph) ?? { number: used.size + 1, character };
    used.set(glyph, known);
    return [nameOf(index), hex(known.number)];
  }
}

function nameOf(index: number): string {
  return `U${index + 1}`;
}

function numbered(character: string): string {
  return `U+${character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}`;
}

function hex(number: number): string {
  return number.toString(16).padStart(4, '0');
}

/** A composite font whose codes are the glyphs' numbers, with a map back to text for those who search and copy. */
function addFont(
  { object, stream }: Adds,
  font: TrueTypeFont,
  used: readonly [number, { number: number; character: string }][],
): number {
  const file = font.subset(used.map(([glyph]) => glyph));
  const embedded = stream(`/Filter /FlateDecode /Length1 ${file.length}`, deflateSync(file));
  const { above, below } = font.reach;
  // A name of a part of a font begins with six letters and a plus sign.
  const name = `ANTIPD+${font.name.replaceAll(/[^A-Za-z0-9]/g, '')}`;
  const descriptor = object(
    `<< /Type /FontDescriptor /FontName /${name} /Flags 4 /FontBBox [0 ${below} 1000 ${above}] /ItalicAngle 0 ` +
      `/Ascent ${above} /Descent ${below} /CapHeight ${above} /StemV 80 /FontFile2 ${embedded} 0 R >>`,
  );
  const widths = used.map(([glyph]) => font.widthOf(glyph)).join(' ');
  const descendant = object(
    `<< /Type /Font /Subtype /CIDFontType2 /BaseFont /${name} /CIDToGIDMap /Identity ` +
      `/FontDescriptor ${descriptor} 0 R /W [1 [${widths}]] ` +
      `/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>`,
  );
  const map = stream('/Filter /FlateDecode', deflateSync(Buffer.from(characterMap(used), 'latin1')));
  return object(
    `<< /Type /Font /Subtype /Type0 /BaseFont /${name} /Encoding /Identity-H /DescendantFonts [${descendant} 0 R] ` +
      `/ToUnicode ${map} 0 R >>`,
  );
}

function characterMap(used: readonly [number, { number: number; character: string }][]): string {
  const lines = used.map(([, { character, number }]) => {
    const units = Array.from({ length: character.length }, (_, index) => hex(character.charCodeAt(index)));
    return `<${hex(number)}> <${units.join('')}>`;
  });
  const parts: string[] = [];
  for (let at = 0; at < lines.length; at += MAP_LINES_MAX) {
    const some = lines.slice(at, at + MAP_LINES_MAX);
    parts.push(`${some.length} beginbfchar\n${some.join('\n')}\nendbfchar`);
  }
  return `/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CMapName /Antipode def
/CMapType 2 def
1 begincodespacerange
<0000> <ffff>
endcodespacerange
${parts.join('\n')}
endcmap
end
end
`;
}
