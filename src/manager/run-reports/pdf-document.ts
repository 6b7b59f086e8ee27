/**
 * The few parts of PDF 1.4 that a report needs (ISO 32000-1): lines of text, and pictures whose compressed lines are
 * taken over from PNG as they are (7.4.4.4, predictor 15). See docs/decisions/0013-pdf-by-hand.md.
 */
import { deflateSync } from 'node:zlib';
import { PdfFonts } from './pdf-fonts.ts';
import type { TrueTypeFont } from './true-type.ts';

/** A4, in points. */
const PAGE = { width: 595, height: 842, margin: 48 };
const LEADING = 1.35;
const PAGES_MAX = 1000;

export type PdfPicture = { width: number; height: number; lines: Uint8Array };
type Page = { commands: string[]; pictures: Map<string, number> };

export class PdfDocument {
  readonly #objects: Buffer[] = [];
  readonly #pages: Page[] = [];
  readonly #fonts: PdfFonts;
  #y = 0;

  /** `fonts` are for characters outside Latin-1, the first that has one counts. */
  constructor(fonts: readonly TrueTypeFont[]) {
    this.#fonts = new PdfFonts(fonts);
  }

  /** A heading, on one line: what does not fit is cut. */
  heading(text: string, size: number): void {
    this.#room(size * 3);
    this.#y -= size;
    const [line] = this.#wrapped(text, size, 0);
    this.#text('F2', size, line!);
  }

  /** A paragraph, wrapped; lines after the first are moved in by so many characters. */
  paragraph(text: string, size = 9, indent = 0): void {
    for (const line of this.#wrapped(text, size, indent)) this.#text('F1', size, line);
  }

  gap(points: number): void {
    this.#y -= points;
  }

  picture({ height, lines, width }: PdfPicture): void {
    const scale = Math.min(1, (PAGE.width - 2 * PAGE.margin) / width, 300 / height);
    const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
    const page = this.#room(h + 12);
    const name = `P${this.#objects.length}`;
    page.pictures.set(
      name,
      this.#stream(
        `/Type /XObject /Subtype /Image /Width ${width} /Height ${height} /ColorSpace /DeviceRGB ` +
          `/BitsPerComponent 8 /Filter /FlateDecode ` +
          `/DecodeParms << /Predictor 15 /Colors 3 /BitsPerComponent 8 /Columns ${width} >>`,
        Buffer.from(lines),
      ),
    );
    this.#y -= h + 6;
    page.commands.push(`q ${w} 0 0 ${h} ${PAGE.margin} ${Math.round(this.#y)} cm /${name} Do Q`);
    this.#y -= 6;
  }

  /** The file. `title` is shown by readers. */
  bytes(title: string): Buffer {
    const fonts = ['Courier', 'Helvetica-Bold'].map((font) =>
      this.#object(`<< /Type /Font /Subtype /Type1 /BaseFont /${font} /Encoding /WinAnsiEncoding >>`),
    );
    const embedded = this.#fonts.addTo({
      object: (body) => this.#object(body),
      stream: (entries, data) => this.#stream(entries, Buffer.from(data)),
    });
    const contents = this.#pages.map(({ commands }) => {
      const text = deflateSync(Buffer.from(commands.join('\n'), 'latin1'));
      return this.#stream('/Filter /FlateDecode', text);
    });
    // The tree of pages comes right after the pages, which name it.
    const tree = this.#objects.length + this.#pages.length + 1;
    const pages = this.#pages.map(({ pictures }, index) => {
      const images = [...pictures].map(([name, object]) => `/${name} ${object} 0 R`).join(' ');
      return this.#object(
        `<< /Type /Page /Parent ${tree} 0 R /MediaBox [0 0 ${PAGE.width} ${PAGE.height}] ` +
          `/Contents ${contents[index]} 0 R ` +
          `/Resources << /Font << /F1 ${fonts[0]} 0 R /F2 ${fonts[1]} 0 R ${embedded} >> ` +
          `/XObject << ${images} >> >> >>`,
      );
    });
    const kids = pages.map((page) => `${page} 0 R`).join(' ');
    this.#object(`<< /Type /Pages /Count ${pages.length} /Kids [${kids}] >>`);
    const root = this.#object(`<< /Type /Catalog /Pages ${tree} 0 R >>`);
    const info = this.#object(`<< /Title ${textString(title)} /Producer (Antipode) >>`);
    return this.#file(root, info);
  }

  #file(root: number, info: number): Buffer {
    const head = Buffer.from('%PDF-1.4\n%\xe2\xe3\xcf\xd3\n', 'latin1');
    const parts = [head];
    const offsets: number[] = [];
    let offset = head.length;
    for (const [index, body] of this.#objects.entries()) {
      offsets.push(offset);
      const part = Buffer.concat([Buffer.from(`${index + 1} 0 obj\n`), body, Buffer.from('\nendobj\n')]);
      parts.push(part);
      offset += part.length;
    }
    const rows = offsets.map((at) => `${String(at).padStart(10, '0')} 00000 n \n`).join('');
    parts.push(
      Buffer.from(
        `xref\n0 ${offsets.length + 1}\n0000000000 65535 f \n${rows}trailer\n` +
          `<< /Size ${offsets.length + 1} /Root ${root} 0 R /Info ${info} 0 R >>\nstartxref\n${offset}\n%%EOF\n`,
      ),
    );
    return Buffer.concat(parts);
  }

  #text(font: 'F1' | 'F2', size: number, line: string): void {
    const page = this.#room(size * LEADING);
    this.#y -= size * LEADING;
    const pieces = this.#fonts
      .pieces(line, font)
      .map((piece) => `/${piece.font} ${size} Tf ${piece.text} Tj`);
    page.commands.push(`BT ${PAGE.margin} ${this.#y.toFixed(1)} Td ${pieces.join(' ')} ET`);
  }

  /** Lines that fit the page, the ones after the first moved in; words that do not fit are broken. */
  #wrapped(text: string, size: number, indent: number): string[] {
    const most = ((PAGE.width - 2 * PAGE.margin) * 1000) / size;
    const lines: string[] = [];
    let line = '';
    for (const word of this.#fonts.shown(text).split(' ')) {
      const joined = line === '' ? word : `${line} ${word}`;
      if (this.#fonts.widthOf(joined) <= most) {
        line = joined;
        continue;
      }
      if (line.trim() !== '') lines.push(line);
      line = ' '.repeat(indent);
      for (const character of word) {
        if (this.#fonts.widthOf(line + character) > most) {
          lines.push(line);
          line = ' '.repeat(indent);
        }
        line += character;
      }
    }
    return [...lines, line];
  }

  /** The page that has room for so many points more. */
  #room(points: number): Page {
    const page = this.#pages.at(-1);
    const isFull = this.#pages.length >= PAGES_MAX;
    if (page !== undefined && (this.#y - points > PAGE.margin || isFull)) return page;
    const next: Page = { commands: [], pictures: new Map() };
    this.#pages.push(next);
    this.#y = PAGE.height - PAGE.margin;
    return next;
  }

  #stream(entries: string, data: Buffer): number {
    const head = Buffer.from(`<< ${entries} /Length ${data.length} >>\nstream\n`);
    return this.#object(Buffer.concat([head, data, Buffer.from('\nendstream')]));
  }

  #object(body: string | Buffer): number {
    return this.#objects.push(typeof body === 'string' ? Buffer.from(body, 'latin1') : body);
  }
}

/** A text that is in no page, as a string of UTF-16 with its mark (7.9.2.2). */
function textString(text: string): string {
  return `<feff${Buffer.from(text, 'utf16le').swap16().toString('hex')}>`;
}
