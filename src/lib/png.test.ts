import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32, deflateSync, inflateSync } from 'node:zlib';
import { decodePng, encodePng, halved, readPng, readPpm } from './png.ts';

const picture = { width: 3, height: 2, rgb: Uint8Array.from({ length: 18 }, (_, index) => index * 13) };

test('a picture is read back as it was, line by line, with filter 0', () => {
  const { height, lines, width } = readPng(encodePng(picture));
  assert.deepEqual([width, height], [3, 2]);
  const raw = inflateSync(lines);
  assert.deepEqual([...raw], [0, ...picture.rgb.subarray(0, 9), 0, ...picture.rgb.subarray(9)]);
});

test('every prefix of a PNG and every flipped bit is refused', () => {
  const png = encodePng(picture);
  for (let length = 0; length < png.length; length++) {
    assert.throws(() => readPng(png.subarray(0, length)), { code: 'protocol_corrupt' }, `${length}`);
  }
  for (let bit = 0; bit < png.length * 8; bit++) {
    const flipped = Buffer.from(png);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(() => readPng(flipped), { code: 'protocol_corrupt' }, `bit ${bit}`);
  }
});

test('a PNG by any filter is decoded: what is added to a byte is what is left of it and above', () => {
  const sums = [
    (left: number): number => left,
    (_: number, above: number): number => above,
    (left: number, above: number): number => (left + above) >> 1,
  ];
  assert.deepEqual(decodePng(encodePng(picture)), picture);
  for (const [index, predict] of sums.entries()) {
    const lines = Buffer.alloc(20);
    for (let at = 0; at < 18; at++) {
      const [x, y] = [at % 9, Math.floor(at / 9)];
      const left = x < 3 ? 0 : picture.rgb[at - 3]!;
      const above = y === 0 ? 0 : picture.rgb[at - 9]!;
      lines[y * 10] = index + 1;
      lines[y * 10 + 1 + x] = picture.rgb[at]! - predict(left, above);
    }
    assert.deepEqual(decodePng(pngOf(lines)), picture, `filter ${index + 1}`);
  }
  // Of left 10, above 20 and corner 20, the first is nearest to their plane.
  const paeth = pngOf(Buffer.from([0, 20, 20, 20, 20, 20, 20, 0, 0, 0, 4, 10, 10, 10, 5, 5, 5, 0, 0, 0]));
  assert.deepEqual([...decodePng(paeth).rgb.subarray(9, 15)], [30, 30, 30, 35, 35, 35]);
  assert.throws(() => decodePng(pngOf(Buffer.from([5, ...lines0]))), { code: 'protocol_corrupt' });
  assert.throws(() => decodePng(pngOf(Buffer.alloc(21))), { code: 'protocol_corrupt' });
});

const lines0 = Buffer.alloc(19);

/** Of the picture's sides, with these lines. */
function pngOf(lines: Buffer): Buffer {
  const png = encodePng(picture);
  const at = png.indexOf('IDAT') - 4;
  const data = Buffer.concat([Buffer.from('IDAT'), deflateSync(lines)]);
  const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length - 4);
  sum.writeUInt32BE(crc32(data));
  return Buffer.concat([png.subarray(0, at), length, data, sum, png.subarray(-12)]);
}

test('a PPM of QEMU is read, and one that is too short, too large or of another kind is refused', () => {
  const ppm = Buffer.concat([Buffer.from('P6\n3 2\n255\n'), picture.rgb]);
  assert.deepEqual(readPpm(ppm).rgb.length, 18);
  const bad = [ppm.subarray(0, -1), Buffer.from('P6\n9999 9999\n255\n'), Buffer.from('P5\n3 2\n255\n'), []];
  for (const bytes of bad) assert.throws(() => readPpm(Uint8Array.from(bytes)), { code: 'protocol_corrupt' });
});

test('half of a picture has every second pixel', () => {
  const { height, rgb, width } = halved(picture);
  assert.deepEqual([width, height, ...rgb], [2, 1, 0, 13, 26, 78, 91, 104]);
});
