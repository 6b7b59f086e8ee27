/**
 * PNG as far as console pictures need it: 8-bit RGB, not interlaced (PNG specification, third edition, sections 5, 10
 * and 11).
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';
import { Failure } from './failure.ts';

const SIGNATURE = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
/** Sides of a picture; more than any console of ours has. */
export const PICTURE_SIDE_MAX = 4096;
const CHANNELS = 3;

/** `rgb` has three bytes for each pixel, line by line from the top. */
export type Picture = { width: number; height: number; rgb: Uint8Array };

export function encodePng({ width, height, rgb }: Picture): Buffer {
  const lineBytes = width * CHANNELS;
  // Each line begins with the number of its filter: 0, none.
  const lines = Buffer.alloc((lineBytes + 1) * height);
  for (let y = 0; y < height; y++) {
    lines.set(rgb.subarray(y * lineBytes, (y + 1) * lineBytes), y * (lineBytes + 1) + 1);
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    SIGNATURE,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(lines, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

/** Its sides and its compressed lines. Throws protocol_corrupt for anything that `encodePng` does not make. */
export function readPng(bytes: Uint8Array): { width: number; height: number; lines: Buffer } {
  const png = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!png.subarray(0, 8).equals(SIGNATURE)) throw broken('signature');
  const lines: Buffer[] = [];
  let sides: { width: number; height: number } | undefined;
  for (let at = 8; at + 12 <= png.length;) {
    const length = png.readUInt32BE(at);
    const end = at + 12 + length;
    if (end > png.length) throw broken('length of a chunk');
    const body = png.subarray(at + 4, end - 4);
    if (crc32(body) !== png.readUInt32BE(end - 4)) throw broken('checksum');
    const kind = body.toString('latin1', 0, 4);
    if (kind === 'IHDR') sides = sidesOf(body.subarray(4));
    else if (kind === 'IDAT') lines.push(body.subarray(4));
    else if (kind === 'IEND' && sides !== undefined) return { ...sides, lines: Buffer.concat(lines) };
    at = end;
  }
  throw broken('end');
}

/** The pixels of a PNG of 8-bit RGB by whatever program, with any of the filters. Throws protocol_corrupt. */
export function decodePng(bytes: Uint8Array): Picture {
  const { height, lines, width } = readPng(bytes);
  const lineBytes = width * CHANNELS;
  let raw: Buffer;
  try {
    raw = inflateSync(lines, { maxOutputLength: (lineBytes + 1) * height });
  } catch {
    throw broken('data');
  }
  if (raw.length !== (lineBytes + 1) * height) throw broken('data');
  const rgb = new Uint8Array(lineBytes * height);
  for (let y = 0; y < height; y++) {
    const at = y * lineBytes;
    const from = y * (lineBytes + 1);
    const predict = FILTERS[raw[from]!];
    if (predict === undefined) throw broken('filter');
    for (let x = 0; x < lineBytes; x++) {
      const left = x < CHANNELS ? 0 : rgb[at + x - CHANNELS]!;
      const above = y === 0 ? 0 : rgb[at + x - lineBytes]!;
      const corner = y === 0 || x < CHANNELS ? 0 : rgb[at + x - lineBytes - CHANNELS]!;
      rgb[at + x] = raw[from + 1 + x]! + predict(left, above, corner);
    }
  }
  return { width, height, rgb };
}

/** What a byte is the difference to, by the number of the line's filter (section 9.2). */
const FILTERS: readonly ((left: number, above: number, corner: number) => number)[] = [
  () => 0,
  (left) => left,
  (_, above) => above,
  (left, above) => (left + above) >> 1,
  paeth,
];

function paeth(left: number, above: number, corner: number): number {
  const guess = left + above - corner;
  const [toLeft, toAbove, toCorner] = [left, above, corner].map((value) => Math.abs(guess - value));
  if (toLeft! <= toAbove! && toLeft! <= toCorner!) return left;
  return toAbove! <= toCorner! ? above : corner;
}

function sidesOf(header: Buffer): { width: number; height: number } {
  if (header.length !== 13 || !header.subarray(8).equals(Buffer.from([8, 2, 0, 0, 0])))
    throw broken('header');
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const isFitting = [width, height].every((side) => side >= 1 && side <= PICTURE_SIDE_MAX);
  if (!isFitting) throw broken('size');
  return { width, height };
}

function chunk(kind: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(kind, 'latin1'), data]);
  const around = Buffer.alloc(8);
  around.writeUInt32BE(data.length, 0);
  around.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([around.subarray(0, 4), body, around.subarray(4)]);
}

function broken(what: string): Failure {
  return new Failure('protocol_corrupt', `read a picture: its ${what} is not that of a PNG of 8-bit RGB`);
}

const PPM = /^P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s/;

/** A screenshot of QEMU by its older form; the newer is PNG. Throws protocol_corrupt. */
export function readPpm(bytes: Uint8Array): Picture {
  const head = PPM.exec(Buffer.from(bytes.subarray(0, 64)).toString('latin1'));
  const [width, height] = [Number(head?.[1]), Number(head?.[2])];
  const rgb = bytes.subarray(head?.[0].length ?? 0);
  const isFitting = [width, height].every((side) => side >= 1 && side <= PICTURE_SIDE_MAX);
  if (head === null || !isFitting || rgb.length < width * height * CHANNELS) {
    throw new Failure('protocol_corrupt', 'read a picture: it is no PPM of 8-bit RGB');
  }
  return { width, height, rgb: rgb.subarray(0, width * height * CHANNELS) };
}

/** Every second pixel of every second line. */
export function halved({ width, height, rgb }: Picture): Picture {
  const [w, h] = [Math.ceil(width / 2), Math.ceil(height / 2)];
  const half = new Uint8Array(w * h * CHANNELS);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const from = (2 * y * width + 2 * x) * CHANNELS;
      half.set(rgb.subarray(from, from + CHANNELS), (y * w + x) * CHANNELS);
    }
  }
  return { width: w, height: h, rgb: half };
}
