import assert from 'node:assert/strict';
import { mkdtemp, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { headerOfFile } from './qcow2-headers.ts';

function image(diskBytes: number): Uint8Array {
  const bytes = Buffer.alloc(512);
  bytes.writeUInt32BE(0x514649fb, 0);
  bytes.writeUInt32BE(3, 4);
  bytes.writeBigUInt64BE(BigInt(diskBytes), 24);
  return bytes;
}

test('a header is read again after every write to its file, and not while its times could hide one', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-headers-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const path = join(directory, 'disk.qcow2');
  await writeFile(path, image(512));
  const before = await stat(path);
  const laterMs = Date.now() + 10_000;

  // A write within the same tick of the file system's clock: the times are the same as before.
  assert.equal((await headerOfFile(path, before))?.diskBytes, 512);
  await writeFile(path, image(1024));
  assert.equal((await headerOfFile(path, before))?.diskBytes, 1024);

  // Ten seconds later the same times say that nothing was written.
  assert.equal((await headerOfFile(path, before, laterMs))?.diskBytes, 1024);
  await truncate(path, 0);
  assert.equal((await headerOfFile(path, before, laterMs))?.diskBytes, 1024);
  assert.equal(await headerOfFile(path, await stat(path), laterMs), undefined);

  // Another file in its place, with the old one's modification time.
  await rm(path);
  await writeFile(path, image(2048));
  await utimes(path, before.atime, before.mtime);
  assert.equal((await headerOfFile(path, await stat(path), laterMs))?.diskBytes, 2048);
});
