import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { MemoryFileSystem } from '#/disk/memory-file-system.ts';
import { BareReplica } from './bare-replica.ts';
import { fixedClock, sha256 } from './replica-fixture.ts';
import { openReplica } from './stored-replica.ts';
import type { View } from './replica.ts';

/** A replica of format version 1 as it was written when that was the newest, and what is in it. */
type Kept = { points: { sequence: number; disks: Record<string, string> }[]; files: Record<string, string> };

async function load(): Promise<{ kept: Kept; files: MemoryFileSystem }> {
  const kept = JSON.parse(await readFile(new URL('./version-1.json', import.meta.url), 'utf8')) as Kept;
  const files = new MemoryFileSystem();
  for (const name of ['disks', 'deltas', 'incoming', 'attachments']) await files.makeDirectory(name);
  for (const [path, content] of Object.entries(kept.files)) {
    if (path.includes('/')) await files.makeDirectory(path.slice(0, path.lastIndexOf('/')));
    await using file = await files.open(path, 'create-new');
    await file.write(0, gunzipSync(Buffer.from(content, 'base64')));
  }
  return { kept, files };
}

async function hashes(view: View): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [index, { key, bytes }] of view.point.disks.entries()) {
    const content = new Uint8Array(bytes);
    await view.disks[index]!.read(0, content);
    found[key] = sha256(content);
  }
  return found;
}

test('a replica of version 1 opens, with and without the lock, and has what it had', async () => {
  const { kept, files } = await load();
  const bare = await BareReplica.open(files);
  assert.deepEqual((await bare.verify()).problems, []);
  await using replica = await openReplica({ files, clock: fixedClock() });
  assert.deepEqual(
    replica.points().map(({ sequence }) => sequence),
    kept.points.map(({ sequence }) => sequence),
  );
  for (const { sequence, disks } of kept.points) {
    for (const source of [bare, replica]) {
      await using view = await source.openView(sequence);
      assert.deepEqual(await hashes(view), disks, `point ${sequence}`);
    }
  }
});
