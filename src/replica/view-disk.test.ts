import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
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

/** A point over three deltas, the last of which makes the disk what the contract wants. */
async function viewOf(content: Uint8Array, isBare: boolean): Promise<Disk> {
  const path = await mkdtemp(join(tmpdir(), 'antipode-view-'));
  directories.push(path);
  const files = new NodeFileSystem(path);
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

diskContract('a view', (content) => viewOf(content, false));
diskContract('a view without the lock', (content) => viewOf(content, true));
