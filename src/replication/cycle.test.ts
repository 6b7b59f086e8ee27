/** One cycle against a VM, a replica and a file system in memory; with links cut and machines crashed everywhere. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { syncBlockCodec } from './block-codec.ts';
import { runCycle, type CycleResult } from './cycle.ts';
import { VirtualClock, CrashingFileSystem } from './crash-fixture.ts';
import { MemoryReplica } from './replica-fixture.ts';
import { ReplicaRecord } from './replica-record.ts';
import { MemorySource, MemoryVmDisk } from './source-fixture.ts';

const MIB = 2 ** 20;

class World {
  fs = new CrashingFileSystem();
  readonly random = new SeededRandom(7);
  readonly replica = new MemoryReplica();
  readonly source: MemorySource;
  readonly clock = new VirtualClock();

  constructor(...sizes: number[]) {
    this.source = new MemorySource(sizes.map((bytes, i) => new MemoryVmDisk(`vd${'abc'[i]}`, bytes)));
  }

  disk(index = 0): MemoryVmDisk {
    return this.source.disks[index]!;
  }

  /** Random bytes into a block. */
  scribble(block: number, count = 1, index = 0): void {
    const disk = this.disk(index);
    const length = Math.min(count * BLOCK_BYTES, disk.bytes.length - block * BLOCK_BYTES);
    disk.write(block * BLOCK_BYTES, this.random.bytes(length));
  }

  async cycle(signal: AbortSignal = new AbortController().signal): Promise<CycleResult> {
    await using record = await ReplicaRecord.open(this.fs, 'r', 'replica-1');
    const { source, random, clock } = this;
    const context = { source, link: this.replica, record, codec: syncBlockCodec, clock, random };
    return await runCycle({ ...context, disks: [], scratchBytes: 2 ** 30 }, signal);
  }

  assertEqual(): void {
    for (const { key, bytes } of this.source.disks) {
      assert.equal(Buffer.compare(this.replica.contents(key), bytes), 0, `${key} differs`);
    }
  }
}

test('a first copy makes the replica equal and reads nothing that is known to be zero', async () => {
  const world = new World(280 * MIB, 3 * MIB + 512);
  world.scribble(5, 3);
  world.scribble(70_000, 200);
  world.scribble(768, 1, 1);
  const result = await world.cycle();
  world.assertEqual();
  assert.equal(result.isFirstCopy, true);
  assert.equal(result.changedBytes, 204 * BLOCK_BYTES);
  assert(result.readBytes < 2 * MIB, `${result.readBytes} bytes read`);
  assert.deepEqual(world.source.outcomes, ['acknowledged']);
  assert.equal(world.replica.attachments.size, 1);
});

test('a later cycle sends just the blocks that differ, zeroed ones without bytes', async () => {
  const world = new World(8 * MIB);
  world.scribble(0, 2048);
  await world.cycle();
  const before = world.replica.blocksTaken;
  world.scribble(17);
  world.scribble(1030, 2);
  world.disk().write(600 * BLOCK_BYTES, new Uint8Array(8 * BLOCK_BYTES));
  world.disk().write(40 * BLOCK_BYTES, world.disk().bytes.slice(40 * BLOCK_BYTES, 41 * BLOCK_BYTES));
  const result = await world.cycle();
  world.assertEqual();
  assert.equal(result.isComparing, false);
  assert.equal(world.replica.blocksTaken - before, 11);
  assert.equal(result.changedBytes, 11 * BLOCK_BYTES);
  assert(result.wireBytes < 3 * BLOCK_BYTES + 600, `${result.wireBytes} bytes for three blocks`);
  assert.equal(result.point.sequence, 2);
});

test('a cycle with nothing changed makes a point and sends no segment', async () => {
  const world = new World(2 * MIB);
  world.scribble(3);
  await world.cycle();
  const { segmentsTaken } = world.replica;
  const result = await world.cycle();
  assert.equal(world.replica.segmentsTaken, segmentsTaken);
  assert.equal(result.readBytes, 0);
  assert.equal(world.replica.head?.sequence, 2);
});

test('lost tracking costs a local read: only what differs travels', async () => {
  const world = new World(4 * MIB);
  world.scribble(0, 1024);
  await world.cycle();
  world.source.kill();
  world.scribble(9);
  const before = world.replica.blocksTaken;
  const result = await world.cycle();
  world.assertEqual();
  assert.equal(result.isComparing, true);
  assert.equal(world.replica.blocksTaken - before, 1);
});

test('a lost record is fetched from the digest tree of the replica and nothing is sent twice', async () => {
  const world = new World(4 * MIB, 80 * MIB);
  world.scribble(0, 1024);
  world.scribble(20_000, 4, 1);
  await world.cycle();
  world.fs = new CrashingFileSystem();
  world.scribble(12);
  const before = world.replica.blocksTaken;
  const result = await world.cycle();
  world.assertEqual();
  assert.equal(result.isComparing, true);
  assert.equal(world.replica.blocksTaken - before, 1);
  assert(world.replica.digestsServed < 4096, `${world.replica.digestsServed} digests fetched`);
});

test('a record with a flipped bit is noticed and never makes a wrong delta', async () => {
  for (const file of ['r/disk-vda.digests', 'r/disk-vda.tree', 'r/state']) {
    const world = new World(4 * MIB);
    world.scribble(0, 1024);
    await world.cycle();
    world.fs.corrupt(file, file === 'r/state' ? 60 : 4096 + 40);
    world.scribble(2);
    await world.cycle().catch((error: unknown) => assert(hasCode(error, 'storage_corrupt'), String(error)));
    await world.cycle();
    world.assertEqual();
  }
});

test('a replica that was replaced by an older copy of itself gets what it lacks', async () => {
  const world = new World(4 * MIB);
  world.scribble(0, 1024);
  await world.cycle();
  const older = { head: world.replica.head, state: world.replica.state };
  world.scribble(100, 5);
  await world.cycle();
  Object.assign(world.replica, older);
  const before = world.replica.blocksTaken;
  world.scribble(300);
  await world.cycle();
  world.assertEqual();
  assert.equal(world.replica.blocksTaken - before, 6);
});

test('an image restored from an older copy cannot hide what a powered-off VM had sent', async () => {
  const world = new World(4 * MIB);
  world.scribble(0, 1024);
  await world.cycle();
  world.source.isOn = false;
  const image = world.disk().image();
  world.scribble(500, 3);
  const off = await world.cycle();
  assert.equal(off.consistency, 'off');
  world.assertEqual();
  world.disk().restore(image);
  world.source.isOn = true;
  world.scribble(20);
  const result = await world.cycle();
  assert.equal(result.isComparing, false);
  world.assertEqual();
  world.scribble(21);
  const { readBytes } = await world.cycle();
  world.assertEqual();
  assert.equal(readBytes, 65_536);
});

test('another image behind the disk is compared whole, whatever its bitmaps say', async () => {
  const world = new World(4 * MIB);
  world.scribble(0, 1024);
  await world.cycle();
  const image = world.disk().image();
  image.bytes.set(world.random.bytes(BLOCK_BYTES), 900 * BLOCK_BYTES);
  world.disk().restore(image);
  world.disk().imageId = 'image-2';
  const result = await world.cycle();
  assert.equal(result.isComparing, true);
  world.assertEqual();
});

test('disks that are added, grown, shrunk and removed are taken as they are', async () => {
  const world = new World(3 * MIB + 512);
  world.scribble(0, 768);
  await world.cycle();
  for (const bytes of [5 * MIB, 5 * MIB + 1536, 2 * MIB + 512, 258 * MIB, 512]) {
    const disk = world.disk();
    const next = new Uint8Array(bytes);
    next.set(disk.bytes.subarray(0, bytes));
    disk.bytes = next;
    await world.cycle();
    world.assertEqual();
    if (bytes > MIB) world.scribble(Math.floor(bytes / BLOCK_BYTES) - 1);
    await world.cycle();
    world.assertEqual();
  }
  world.source.disks.push(new MemoryVmDisk('vdb', MIB));
  world.scribble(3, 1, 1);
  await world.cycle();
  world.assertEqual();
  world.source.disks.shift();
  await world.cycle();
  world.assertEqual();
  assert.deepEqual([...world.replica.state.keys()], ['vdb']);
});

test('a moment that is lost ends the cycle with its reason and is given up', async () => {
  const world = new World(2 * MIB);
  world.scribble(0, 512);
  const { source, replica } = world;
  const begin = replica.begin.bind(replica);
  replica.begin = (begun) => {
    source.lose!(new Failure('scratch_full', 'scratch is full'));
    return begin(begun);
  };
  await assert.rejects(world.cycle(), (error) => hasCode(error, 'scratch_full'));
  assert.deepEqual(source.outcomes, ['given_up']);
  replica.begin = begin;
  await world.cycle();
  world.assertEqual();
});

test('a link cut at any message is taken up in the same moment, and no segment is taken twice', async () => {
  const plain = new World(3 * MIB);
  plain.scribble(0, 700);
  await plain.cycle();
  for (let message = 1; message < plain.replica.messages; message++) {
    for (const side of ['before', 'after'] as const) {
      const world = new World(3 * MIB);
      world.scribble(0, 700);
      world.replica.cuts.set(message, side);
      const result = await world.cycle();
      const what = `cut ${side} message ${message}`;
      world.assertEqual();
      assert.equal(result.resumes, 1, what);
      assert.equal(world.replica.segmentsTaken, plain.replica.segmentsTaken, what);
      assert.equal(world.replica.points.length, 1, what);
      await world.cycle();
      world.assertEqual();
    }
  }
});

test('a link that stays away ends the cycle; what the replica made of it is learnt at the next', async () => {
  const plain = new World(2 * MIB);
  plain.scribble(0, 300);
  await plain.cycle();
  const commit = plain.replica.messages - 1;
  for (const side of ['before', 'after'] as const) {
    const world = new World(2 * MIB);
    world.scribble(0, 300);
    world.replica.cuts.set(commit, side);
    for (let message = commit + 1; message < commit + 200; message++)
      world.replica.cuts.set(message, 'before');
    await assert.rejects(world.cycle(), (error) => hasCode(error, 'unreachable'));
    assert.deepEqual(world.source.outcomes, ['unknown']);
    world.replica.cuts.clear();
    world.scribble(11);
    const result = await world.cycle();
    world.assertEqual();
    assert.equal(result.isComparing, side === 'before', `cut ${side} the commit`);
  }
});

test('power lost at any file operation leaves a record that the next cycles make right', async () => {
  const seed = Date.now() % 1_000_000;
  console.log(`seed ${seed}`);
  const prepare = async (): Promise<World> => {
    const world = new World(3 * MIB, MIB);
    world.scribble(0, 600);
    world.scribble(4, 90, 1);
    await world.cycle();
    world.scribble(3, 2);
    world.scribble(520, 40);
    world.disk(1).write(4 * BLOCK_BYTES, new Uint8Array(90 * BLOCK_BYTES));
    return world;
  };
  const plain = await prepare();
  const before = plain.fs.operations;
  await plain.cycle();
  const count = plain.fs.operations - before;
  assert(count > 10);
  for (let at = 0; at < count; at++) {
    const world = await prepare();
    world.fs.crashAt = before + at;
    await assert.rejects(world.cycle());
    const random = new SeededRandom(seed + at);
    world.fs = world.fs.afterCrash(random);
    world.scribble(integerBelow(random, 700));
    const sentBefore = world.replica.blocksTaken;
    await world.cycle();
    world.assertEqual();
    const what = `seed ${seed}, operation ${at}`;
    assert(world.replica.blocksTaken - sentBefore <= 133, `${what}: too much travels`);
    world.scribble(integerBelow(random, 700));
    const { isComparing } = await world.cycle();
    world.assertEqual();
    assert.equal(isComparing, false, what);
  }
});
