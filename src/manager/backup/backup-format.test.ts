/** The file of a backup: its bytes, and every damage to them. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { Failure, hasCode } from '#/lib/failure.ts';
import { writeParts } from './backup.ts';
import {
  encodeHead,
  readHead,
  readParts,
  sealOf,
  type BackupHead,
  type ReadBytes,
  type Seal,
} from './backup-format.ts';
import type { BackupLine } from './dump.ts';

const PASSPHRASE = 'correct horse battery staple';
const HEAD: BackupHead = {
  created_ms: 1_795_377_600_000,
  site_id: 'site-0c4f1a',
  site_name: 'west',
  version: '0.1.0',
  database: 'sqlite',
  migrations: ['0001-first-tables'],
  salt: Buffer.alloc(32, 7).toString('base64'),
};
const LINES: BackupLine[] = [
  { file: 'site.json', text: '{"site_id":"site-0c4f1a"}\n' },
  { table: 'settings', columns: ['name', 'value'] },
  { row: ['site_name', 'west'] },
  { end: { tables: 1, rows: 1 } },
];
/** As version 1 wrote it first; read by every later version. */
const GOLDEN = [
  'QVBCQUNLVVAAAQDGeyJjcmVhdGVkX21zIjoxNzk1Mzc3NjAwMDAwLCJzaXRlX2lkIjoic2l0ZS0wYzRmMWEiLCJzaXRlX25h',
  'bWUiOiJ3ZXN0IiwidmVyc2lvbiI6IjAuMS4wIiwiZGF0YWJhc2UiOiJzcWxpdGUiLCJtaWdyYXRpb25zIjpbIjAwMDEtZmly',
  'c3QtdGFibGVzIl0sInNhbHQiOiJCd2NIQndjSEJ3Y0hCd2NIQndjSEJ3Y0hCd2NIQndjSEJ3Y0hCd2NIQndjPSJ9sfORtAAA',
  'AJYBrViBEQyoHiOhJW7xaXAkTAJ60zLrhepH7FLat5kiFiTAuZsoklJ5pu4i9hMcLjADFjFkbCOhNo6q8PATEo3rmgeUL8/+',
  'd5ZftuQDaTiDEyKv4qg2cKORfK+CaW8ZFStr49RCeBJEz+vyW9mniLxboRUmShFo2U/ev3B01F3+Hv4iLAN42cDnEn0CYQwn',
  'ABw79Go1qh0nGcFTvQ==',
].join('');

let seal: Seal;
let bytes: Buffer;

before(async () => {
  seal = await sealOf(PASSPHRASE, HEAD, encodeHead(HEAD));
  bytes = await written();
});

async function written(): Promise<Buffer> {
  const parts: Buffer[] = [];
  const content = { head: HEAD, passphrase: PASSPHRASE, lines: each() };
  await writeParts(content, async (part) => void parts.push(part));
  return Buffer.concat(parts);
}

async function* each(): AsyncGenerator<BackupLine> {
  yield* LINES;
}

function reader(file: Buffer): ReadBytes {
  let at = 0;
  return async (count) => file.subarray(at, (at += count));
}

/** The lines, with a key that was made before: to make one takes as long as thousands of readings. */
async function read(file: Buffer): Promise<string> {
  const from = reader(file);
  await readHead(from);
  const parts: Buffer[] = [];
  for await (const part of readParts(from, seal)) parts.push(part);
  return Buffer.concat(parts).toString();
}

const TEXT = LINES.map((line) => `${JSON.stringify(line)}\n`).join('');

test('the first file of version 1 is read for ever', async () => {
  assert.equal(await read(Buffer.from(GOLDEN, 'base64')), TEXT);
  assert.equal(await read(bytes), TEXT);
});

test('every flipped bit is refused, and named by its part', async () => {
  for (let at = 0; at < bytes.length; at++) {
    for (let bit = 0; bit < 8; bit++) {
      const wrong = Buffer.from(bytes);
      wrong[at]! ^= 1 << bit;
      await assert.rejects(
        read(wrong),
        (error: Error) =>
          error instanceof Failure &&
          error.code === 'storage_corrupt' &&
          /does not begin|its head|part 1|last part/.test(error.message),
        `bit ${bit} of byte ${at}`,
      );
    }
  }
});

test('a file that ends anywhere before its end, or goes on after it, is refused', async () => {
  for (let length = 0; length < bytes.length; length++) {
    await assert.rejects(read(bytes.subarray(0, length)), (error: Error) =>
      hasCode(error, 'storage_corrupt'),
    );
  }
  await assert.rejects(read(Buffer.concat([bytes, Buffer.alloc(1)])), /what follows its last part/);
});

test('another passphrase is told from damage', async () => {
  const other = await sealOf('another passphrase', HEAD, encodeHead(HEAD));
  const from = reader(bytes);
  await readHead(from);
  await assert.rejects(readParts(from, other).next(), (error: Error) => hasCode(error, 'unauthenticated'));
});

test('what is no backup at all is refused in words, whatever it is', async () => {
  let state = 12_345;
  for (let round = 0; round < 300; round++) {
    const noise = Buffer.from(
      Array.from({ length: round }, () => (state = (state * 48_271) % 2_147_483_647) & 255),
    );
    const file = round % 2 === 0 ? noise : Buffer.concat([bytes.subarray(0, round % bytes.length), noise]);
    await assert.rejects(read(file), (error: Error) => error instanceof Failure, `round ${round}`);
  }
});
