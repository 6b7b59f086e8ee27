import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { digestBlocks } from '#/disk/digest.ts';
import { diskContract } from '#/disk/disk-contract.ts';
import type { Disk } from '#/disk/disk.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { SeededRandom } from '#/lib/random.ts';
import { BareReplica } from './bare-replica.ts';
import { fixedClock, IDENTITY, SourceModel } from './replica-fixture.ts';
import { createReplica } from './stored-replica.ts';

const directories: string[] = [];
after(async () => {
  for (const path of directories) await rm(path, { recursive: true, force: true });
});

async function newDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'antipode-view-'));
  directories.push(path);
  return path;
}

/** A point over three deltas, the last of which makes the disk what the contract wants. */
async function viewOf(content: Uint8Array, isBare: boolean): Promise<Disk> {
  const files = new NodeFileSystem(await newDirectory());
  const model = new SourceModel(new SeededRandom(3));
  const replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  model.disks.set('vda', content.slice());
  model.scribble(60);
  for (let i = 0; i < 3; i++) {
    await model.send(replica);
    model.scribble(10);
  }
  model.disks.set('vda', content);
  await model.send(replica);
  const bare = isBare ? await BareReplica.open(files) : undefined;
  const view = await (bare ?? replica).openView(4);
  const disk = view.disks[0]!;
  return {
    bytes: disk.bytes,
    read: (offset, target, signal) => disk.read(offset, target, signal),
    extents: (offset, length, signal) => disk.extents(offset, length, signal),
    [Symbol.asyncDispose]: async () => {
      await view[Symbol.asyncDispose]();
      await replica[Symbol.asyncDispose]();
    },
  };
}

test('the digests of a point are those of its blocks, in their order', async () => {
  const files = new NodeFileSystem(await newDirectory());
  const model = new SourceModel(new SeededRandom(5));
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const content = new Uint8Array(3 * 2 ** 20 + 512);
  content.set(new SeededRandom(6).bytes(700_000), 2 ** 21);
  model.disks.set('vda', content);
  await model.send(replica);
  await using bare = await (await BareReplica.open(files)).openView(1);
  const before = digestBlocks(IDENTITY.digestKey, content);
  await using view = await replica.openView(1);
  content.set(new SeededRandom(7).bytes(9000), 2 ** 21);
  await model.send(replica);
  for (const disk of [view.digests[0]!, bare.digests[0]!]) {
    assert.equal(disk.bytes % 512, 0);
    const row = new Uint8Array(disk.bytes);
    await disk.read(0, row);
    assert(Buffer.compare(row.subarray(0, before.length), before) === 0);
    assert(row.subarray(before.length).every((byte) => byte === 0));
    const piece = new Uint8Array(5000);
    await disk.read(4000, piece);
    assert(Buffer.compare(piece, row.subarray(4000, 9000)) === 0);
    const kinds = (await disk.extents(0, disk.bytes)).map(({ kind, length }) => `${kind} ${length}`);
    assert.deepEqual(kinds, ['zero 8192', 'data 4096', 'zero 512']);
  }
});

diskContract('a view', (content) => viewOf(content, false));
diskContract('a view without the lock', (content) => viewOf(content, true));
