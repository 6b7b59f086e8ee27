import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inflateSync } from 'node:zlib';
import { encodePng, halved, readPng, readPpm } from './png.ts';

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
