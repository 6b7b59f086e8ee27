/**
 * What a PDF needs of a TrueType font (the OpenType specification, 1.9): which glyph a character has, how wide it is,
 * and a font of just the glyphs that are used. Glyphs are numbered anew, so that the small font stays small.
 *
 * Offset 0: version (4), number of tables (2), 6 bytes unused; then for each table tag (4), checksum (4), offset (4),
 * length (4). Everything is big-endian. Composite glyphs name others, which come along.
 *
 * Invariant: a font is whatever file somebody put there, so nothing is read outside it and nothing loops: what does not
 * fit is a Failure.
 */
import { Failure } from '#/lib/failure.ts';

const VERSIONS = [0x0001_0000, 0x7472_7565];
const TABLES_MAX = 64;
const GLYPHS_MAX = 65_535;
const CHARACTERS_MAX = 0x11_0000;
const HEAD_BYTES = 12;
const ENTRY_BYTES = 16;
/** Parts of composite glyphs: flags that say how long a part is, and that another one follows. */
const ARE_WORDS = 0x0001;
const HAS_SCALE = 0x0008;
const MORE = 0x0020;
const HAS_XY_SCALE = 0x0040;
const HAS_MATRIX = 0x0080;
/** A table of the small font begins at a multiple of it. */
const ALIGNMENT = 4;

export class TrueTypeFont {
  readonly name: string;
  readonly #tables = new Map<string, DataView>();
  readonly #glyphs: ReadonlyMap<number, number>;
  readonly #glyphCount: number;
  readonly #hasLongOffsets: boolean;
  readonly #unitsPerEm: number;
  readonly #widthCount: number;

  /** Throws storage_corrupt for what is no TrueType font. `name` is for messages. */
  constructor(bytes: Uint8Array, name: string) {
    this.name = name;
    try {
      const font = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (!VERSIONS.includes(font.getUint32(0))) throw new RangeError('its outlines are not of TrueType');
      const count = font.getUint16(4);
      if (count > TABLES_MAX) throw new RangeError(`it has ${count} tables`);
      for (let index = 0; index < count; index++) {
        const at = HEAD_BYTES + index * ENTRY_BYTES;
        const tag = String.fromCodePoint(...bytes.subarray(at, at + 4));
        const [offset, length] = [font.getUint32(at + 8), font.getUint32(at + 12)];
        this.#tables.set(tag, new DataView(bytes.buffer, bytes.byteOffset + offset, length));
      }
      this.#unitsPerEm = this.#table('head').getUint16(18);
      this.#hasLongOffsets = this.#table('head').getInt16(50) === 1;
      this.#glyphCount = this.#table('maxp').getUint16(4);
      this.#widthCount = this.#table('hhea').getUint16(34);
      this.#glyphs = readCharacters(this.#table('cmap'));
      const isMeasured = this.#unitsPerEm > 0 && this.#widthCount > 0;
      if (!isMeasured || this.#table('hmtx').byteLength < this.#widthCount * 4) {
        throw new RangeError('it has no measures');
      }
    } catch (error) {
      throw new Failure('storage_corrupt', `read font ${name}`, { cause: error });
    }
  }

  /** Undefined for a character that the font has not. */
  glyphOf(codePoint: number): number | undefined {
    const glyph = this.#glyphs.get(codePoint);
    return glyph === undefined || glyph === 0 || glyph >= this.#glyphCount ? undefined : glyph;
  }

  /** In thousandths of the size. */
  widthOf(glyph: number): number {
    return Math.round((this.#measures(glyph).advance * 1000) / this.#unitsPerEm);
  }

  /** In thousandths of the size: how far the font reaches over and under its line. */
  get reach(): { above: number; below: number } {
    const hhea = this.#table('hhea');
    const scaled = (offset: number): number => Math.round((hhea.getInt16(offset) * 1000) / this.#unitsPerEm);
    return { above: scaled(4), below: scaled(6) };
  }

  /** A font of these glyphs, numbered from 1 in this order; 0 is what is drawn for a missing one. */
  subset(glyphs: readonly number[]): Uint8Array {
    try {
      return this.#subset(glyphs);
    } catch (error) {
      throw new Failure('storage_corrupt', `take glyphs from font ${this.name}`, { cause: error });
    }
  }

  #subset(glyphs: readonly number[]): Uint8Array {
    const all = [0, ...glyphs];
    const numbers = new Map(all.map((glyph, index) => [glyph, index]));
    const outlines: Uint8Array[] = [];
    for (let index = 0; index < all.length; index++) {
      // Parts of composite glyphs are appended, and come later in this very loop.
      const outline = this.#outline(all[index]!);
      for (const at of partsOf(outline)) {
        const part = outline.getUint16(at);
        if (!numbers.has(part)) numbers.set(part, all.push(part) - 1);
        if (all.length > GLYPHS_MAX) throw new RangeError('it has no end');
        outline.setUint16(at, numbers.get(part)!);
      }
      outlines.push(padded(new Uint8Array(outline.buffer)));
    }
    return this.#file(all, outlines);
  }

  #file(glyphs: readonly number[], outlines: readonly Uint8Array[]): Uint8Array {
    const copy = (tag: string): DataView => {
      const table = this.#table(tag);
      return new DataView(Uint8Array.from(bytesOf(table)).buffer);
    };
    const [head, hhea, maxp] = [copy('head'), copy('hhea'), copy('maxp')];
    head.setInt16(50, 1);
    hhea.setUint16(34, glyphs.length);
    maxp.setUint16(4, glyphs.length);
    const widths = new DataView(new ArrayBuffer(glyphs.length * 4));
    const offsets = new DataView(new ArrayBuffer((glyphs.length + 1) * 4));
    let offset = 0;
    for (const [index, glyph] of glyphs.entries()) {
      const { advance, bearing } = this.#measures(glyph);
      widths.setUint16(index * 4, advance);
      widths.setInt16(index * 4 + 2, bearing);
      offset += outlines[index]!.length;
      offsets.setUint32((index + 1) * 4, offset);
    }
    const tables: [string, Uint8Array][] = [
      ...['cvt ', 'fpgm'].filter((tag) => this.#tables.has(tag)).map((tag) => named(tag, copy(tag))),
      ['glyf', Buffer.concat(outlines)],
      named('head', head),
      named('hhea', hhea),
      named('hmtx', widths),
      named('loca', offsets),
      named('maxp', maxp),
      ...['prep'].filter((tag) => this.#tables.has(tag)).map((tag) => named(tag, copy(tag))),
    ];
    return assembled(tables);
  }

  /** The last width is that of all glyphs after it; where an outline begins is told of each. */
  #measures(glyph: number): { advance: number; bearing: number } {
    const hmtx = this.#table('hmtx');
    const count = this.#widthCount;
    const advance = hmtx.getUint16(Math.min(glyph, count - 1) * 4);
    const at = glyph < count ? glyph * 4 + 2 : count * 4 + (glyph - count) * 2;
    return { advance, bearing: at + 2 <= hmtx.byteLength ? hmtx.getInt16(at) : 0 };
  }

  /** A copy of a glyph's outline; empty for a space. */
  #outline(glyph: number): DataView {
    const loca = this.#table('loca');
    const at = (index: number): number =>
      this.#hasLongOffsets ? loca.getUint32(index * 4) : loca.getUint16(index * 2) * 2;
    const outline = bytesOf(this.#table('glyf')).subarray(at(glyph), at(glyph + 1));
    return new DataView(Uint8Array.from(outline).buffer);
  }

  #table(tag: string): DataView {
    const table = this.#tables.get(tag);
    if (table === undefined) throw new RangeError(`font ${this.name} has no table ${tag}`);
    return table;
  }
}

/** Where in a composite glyph the numbers of its parts are; none in any other glyph. */
function partsOf(outline: DataView): number[] {
  if (outline.byteLength < 10 || outline.getInt16(0) >= 0) return [];
  const found: number[] = [];
  let at = 10;
  for (;;) {
    const flags = outline.getUint16(at);
    found.push(at + 2);
    at += 4 + ((flags & ARE_WORDS) === 0 ? 2 : 4);
    if ((flags & HAS_SCALE) !== 0) at += 2;
    else if ((flags & HAS_XY_SCALE) !== 0) at += 4;
    else if ((flags & HAS_MATRIX) !== 0) at += 8;
    if ((flags & MORE) === 0) return found;
  }
}

/** From the character map for all of Unicode (format 12), or the one for its first plane (format 4). */
function readCharacters(cmap: DataView): Map<number, number> {
  const offsets = Array.from({ length: cmap.getUint16(2) }, (_, index) => cmap.getUint32(8 + index * 8));
  const tables = offsets.map((offset) => ({ offset, format: cmap.getUint16(offset) }));
  const long = tables.find(({ format }) => format === 12);
  if (long !== undefined) return readGroups(cmap, long.offset);
  const short = tables.find(({ format }) => format === 4);
  if (short === undefined) throw new RangeError('it has no character map of Unicode');
  return readSegments(cmap, short.offset);
}

function readGroups(cmap: DataView, table: number): Map<number, number> {
  const found = new Map<number, number>();
  const count = cmap.getUint32(table + 12);
  let seen = 0;
  for (let index = 0; index < count; index++) {
    const at = table + 16 + index * 12;
    const [first, last, glyph] = [cmap.getUint32(at), cmap.getUint32(at + 4), cmap.getUint32(at + 8)];
    seen += Math.max(0, last - first + 1);
    if (seen > CHARACTERS_MAX) throw new RangeError('its character map goes beyond Unicode');
    for (let character = first; character <= last; character++) {
      found.set(character, glyph + character - first);
    }
  }
  return found;
}

function readSegments(cmap: DataView, table: number): Map<number, number> {
  const found = new Map<number, number>();
  const bytes = cmap.getUint16(table + 6);
  const [ends, starts] = [table + 14, table + 16 + bytes];
  let seen = 0;
  for (let at = 0; at < bytes; at += 2) {
    const [first, last] = [cmap.getUint16(starts + at), cmap.getUint16(ends + at)];
    seen += Math.max(0, last - first + 1);
    if (seen > CHARACTERS_MAX) throw new RangeError('its character map goes beyond Unicode');
    const delta = cmap.getUint16(starts + bytes + at);
    const place = starts + 2 * bytes + at;
    const range = cmap.getUint16(place);
    for (let character = first; character <= last && character < 0xffff; character++) {
      const named = range === 0 ? character : cmap.getUint16(place + range + 2 * (character - first));
      if (named !== 0) found.set(character, (named + delta) & 0xffff);
    }
  }
  return found;
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

function named(tag: string, table: DataView): [string, Uint8Array] {
  return [tag, bytesOf(table)];
}

function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT);
  whole.set(bytes);
  return whole;
}

/** Checksums are left zero: readers of PDF look at none. */
function assembled(tables: readonly [string, Uint8Array][]): Uint8Array {
  const head = Buffer.alloc(HEAD_BYTES + tables.length * ENTRY_BYTES);
  const power = 2 ** Math.floor(Math.log2(tables.length));
  head.writeUInt32BE(VERSIONS[0]!, 0);
  head.writeUInt16BE(tables.length, 4);
  head.writeUInt16BE(power * 16, 6);
  head.writeUInt16BE(Math.log2(power), 8);
  head.writeUInt16BE((tables.length - power) * 16, 10);
  let offset = head.length;
  for (const [index, [tag, bytes]] of tables.entries()) {
    const at = HEAD_BYTES + index * ENTRY_BYTES;
    head.write(tag, at, 'latin1');
    head.writeUInt32BE(offset, at + 8);
    head.writeUInt32BE(bytes.length, at + 12);
    offset += Math.ceil(bytes.length / ALIGNMENT) * ALIGNMENT;
  }
  return Buffer.concat([head, ...tables.map(([, bytes]) => padded(bytes))]);
}
