/** The first cycle back: a VM that was recovered, the old copy at the other site, and what was known of both. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { copyDigests, differing, type BaselineStore } from './baseline.ts';
import { syncBlockCodec } from './block-codec.ts';
import { CrashingFileSystem, VirtualClock } from './crash-fixture.ts';
import { runCycle, type CycleResult } from './cycle.ts';
import { DigestRecord } from './digest-record.ts';
import { MemoryReplica } from './replica-fixture.ts';
import { ReplicaRecord } from './replica-record.ts';
import { MemorySource, MemoryVmDisk } from './source-fixture.ts';

const MIB = 2 ** 20;
const GRAIN_BYTES = 65_536;
const TRACKING = 'from-replica-1-0123';
const forever = new AbortController().signal;

/** A site that has recovered a VM from a point, and the other site with its old copy. */
class Home {
  fs = new CrashingFileSystem();
  readonly random: SeededRandom;
  readonly replica = new MemoryReplica();
  readonly source: MemorySource;
  readonly clock = new VirtualClock();
  readonly dropped: (string | undefined)[] = [];
  key = DIGEST_KEY;

  constructor(seed: number, ...sizes: number[]) {
    this.random = new SeededRandom(seed);
    const disks = sizes.map((bytes, i) => new MemoryVmDisk(`vd${'abc'[i]}`, bytes));
    for (const disk of disks) {
      // Half of it zero, so that both kinds of groups are there.
      disk.bytes.set(this.random.bytes(Math.floor(disk.bytes.length / 4)));
      disk.bitmaps.set(TRACKING, new Set());
    }
    this.source = new MemorySource(disks);
  }

  disk(index = 0): MemoryVmDisk {
    return this.source.disks[index]!;
  }

  /** Keeps the digests of the disks as they are. */
  async keepBaseline(): Promise<void> {
    await using record = await ReplicaRecord.open(this.fs, 'b', 'replica-1');
    await record.doubt();
    await record.setDisks(this.source.disks.map(({ key, bytes }) => ({ key, bytes: bytes.length })));
    for (const { key, bytes } of this.source.disks) {
      const digests = record.digests(key);
      await digests.writeGroups(0, digestBlocks(DIGEST_KEY, bytes));
      await digests.datasync();
    }
    const { replicaId, disks } = record.state;
    const head = { sequence: 7, stamp: '7'.repeat(32), momentMs: 7 };
    const known = disks.map((disk) => ({ ...disk, imageId: 'image-1' }));
    await record.save({
      replicaId,
      head,
      digestKey: this.key,
      tracking: TRACKING,
      disks: known,
      isWhole: true,
    });
  }

  /** The old copy: as the disks are, but for these blocks of the first. */
  leaveOldCopy(blocks: readonly number[]): void {
    this.replica.head = { sequence: 3, stamp: '3'.repeat(32), momentMs: 3 };
    for (const disk of this.source.disks) this.replica.state.set(disk.key, Uint8Array.from(disk.bytes));
    const old = this.replica.contents('vda');
    for (const block of blocks) old.set(this.random.bytes(BLOCK_BYTES), block * BLOCK_BYTES);
  }

  scribble(block: number, index = 0): void {
    this.disk(index).write(block * BLOCK_BYTES, this.random.bytes(BLOCK_BYTES));
  }

  get store(): BaselineStore {
    const { fs } = this;
    return {
      digestKey: async () => this.key,
      open: async () => {
        if (!(await fs.list('b')).includes('state')) return undefined;
        const record = await ReplicaRecord.open(fs, 'b', 'replica-1');
        if (record.state.tracking !== undefined && record.state.isWhole) return record;
        await record[Symbol.asyncDispose]();
        return undefined;
      },
      drop: async (tracking) => {
        this.dropped.push(tracking);
        for (const name of await fs.list('b')) await fs.remove(`b/${name}`);
      },
    };
  }

  async cycle(signal = forever): Promise<CycleResult> {
    await using record = await ReplicaRecord.open(this.fs, 'r', 'replica-2');
    const { source, random, clock, store: baseline } = this;
    const ports = { source, link: this.replica, record, codec: syncBlockCodec, clock, random, baseline };
    return await runCycle({ ...ports, disks: [], scratchBytes: 2 ** 30 }, signal);
  }

  assertEqual(why = ''): void {
    for (const { key, bytes } of this.source.disks) {
      assert.equal(Buffer.compare(this.replica.contents(key), bytes), 0, `${key} differs ${why}`);
    }
  }
}

test('the first cycle back reads what was written since the recovery and what differs, and nothing else', async () => {
  const home = new Home(1, 8 * MIB);
  await home.keepBaseline();
  home.leaveOldCopy([3, 1500, 1501]);
  home.scribble(100);
  home.scribble(3);
  const result = await home.cycle();
  home.assertEqual();
  assert.equal(result.isComparing, false);
  assert.equal(result.isFromBaseline, true);
  // Two grains that were written, and two blocks that were not and differ.
  assert.equal(result.readBytes, 2 * GRAIN_BYTES + 2 * BLOCK_BYTES);
  assert.equal(result.changedBytes, 4 * BLOCK_BYTES);
  assert(home.replica.digestsServed <= 8 + 2 * 256, `${home.replica.digestsServed} digests fetched`);
  assert.equal(home.dropped.length, 1);
  assert.notEqual(home.dropped[0], TRACKING);
  home.scribble(200);
  const next = await home.cycle();
  home.assertEqual();
  assert.equal(next.readBytes, GRAIN_BYTES);
  assert.equal(next.isFromBaseline, false);
});

test('where two records differ is found below each of their nodes, whole blocks at a time', async () => {
  const fs = new CrashingFileSystem();
  const blocks = 256 * 256 + 300;
  await using a = await DigestRecord.open({ fs, path: 'a', identity: 'a', blocks });
  await using b = await DigestRecord.open({ fs, path: 'b', identity: 'b', blocks });
  for (const [group, at] of [
    [0, 5],
    [1, 0],
    [256, 255],
    [257, 0],
    [257, 43],
  ] as const) {
    const digests = await a.group(group);
    digests[at * 16] = 1;
    await a.writeGroups(group, digests);
  }
  const same = new Uint8Array(256 * 16).fill(9);
  for (const record of [a, b]) await record.writeGroups(77, same);
  const found = await Array.fromAsync(differing(a, b), ({ offset, length }) => [
    offset / BLOCK_BYTES,
    length / BLOCK_BYTES,
  ]);
  assert.deepEqual(found, [
    [5, 1],
    [256, 1],
    [256 * 257 - 1, 2],
    [256 * 257 + 43, 1],
  ]);
  await copyDigests(a, b);
  assert.equal(await b.root(), await a.root());
  assert.deepEqual(await Array.fromAsync(differing(a, b)), []);
});

const refusals: [string, (home: Home) => void, isRead?: 'after a failure'][] = [
  ['the digests have another key', (home) => (home.key = 'ab'.repeat(32))],
  ['QEMU was killed', (home) => home.source.kill()],
  ['the image is another one', (home) => (home.disk().imageId = 'image-2')],
  [
    'the old copy has another length',
    (home) => home.replica.state.set('vda', home.replica.contents('vda').subarray(0, 3 * MIB)),
  ],
  ['its digests are torn', (home) => home.fs.corrupt('b/disk-vda.digests', 4096 + 40), 'after a failure'],
];
for (const [what, change, isRead] of refusals) {
  test(`everything is read when ${what}, and the result is right`, async () => {
    const home = new Home(2, 4 * MIB);
    await home.keepBaseline();
    home.leaveOldCopy([7, 8]);
    home.scribble(100);
    change(home);
    if (isRead === 'after a failure')
      await assert.rejects(home.cycle(), (e) => hasCode(e, 'storage_corrupt'));
    const result = await home.cycle();
    assert.equal(result.isComparing, true);
    home.assertEqual();
    home.scribble(101);
    await home.cycle();
    home.assertEqual();
  });
}

test('a VM that is off goes on from the same tracking, and nothing of what it writes later is missed', async () => {
  const home = new Home(3, 4 * MIB);
  await home.keepBaseline();
  home.leaveOldCopy([7]);
  home.source.isOn = false;
  home.scribble(100);
  assert.equal((await home.cycle()).readBytes, GRAIN_BYTES + BLOCK_BYTES);
  assert.deepEqual(home.dropped, [TRACKING]);
  home.assertEqual();
  home.source.isOn = true;
  home.scribble(500);
  assert.equal((await home.cycle()).isComparing, false);
  home.assertEqual();
});

test('whatever was written where, the replica is equal and little is read', async () => {
  const from = Date.now() % 100_000;
  for (let seed = from; seed < from + 8; seed++) {
    const home = new Home(seed, 2 * MIB + 512, MIB);
    const pick = (): number => integerBelow(home.random, 255);
    await home.keepBaseline();
    home.leaveOldCopy(Array.from({ length: integerBelow(home.random, 40) }, pick));
    let written = 0;
    for (; written < integerBelow(home.random, 6); written++) home.scribble(pick(), written % 2);
    home.disk().write(pick() * BLOCK_BYTES, new Uint8Array(2 * BLOCK_BYTES));
    const { readBytes, isComparing } = await home.cycle();
    home.assertEqual(`seed ${seed}`);
    assert.equal(isComparing, false, `seed ${seed}`);
    assert(readBytes <= (written + 2) * GRAIN_BYTES + 40 * BLOCK_BYTES, `seed ${seed}: ${readBytes} read`);
    home.scribble(pick());
    await home.cycle();
    home.assertEqual(`seed ${seed}, later`);
  }
});

test('power lost at any file operation of the first cycle back leaves what the next cycles make right', async () => {
  for (let crashAt = 0; ; crashAt++) {
    const home = new Home(4, MIB / 2 + 512);
    await home.keepBaseline();
    await home.fs.syncDirectory('b');
    home.leaveOldCopy([7, 100]);
    home.scribble(50);
    const before = home.fs.operations;
    home.fs.crashAt = before + crashAt;
    const isDone = await home.cycle().then(
      () => true,
      (error: unknown) => {
        assert(error instanceof Failure, String(error));
        return false;
      },
    );
    if (isDone) {
      assert(crashAt > 20, `the whole cycle took ${crashAt} operations`);
      return;
    }
    home.fs = home.fs.afterCrash(new SeededRandom(crashAt));
    home.scribble(51);
    for (let tries = 0; tries < 2; tries++) {
      home.scribble(110 + tries);
      await home.cycle();
      home.assertEqual(`after power was lost at operation ${crashAt}`);
    }
  }
});

test('a link cut at any message of the first cycle back costs no wrong byte', async () => {
  for (let cut = 0; cut < 14; cut++) {
    for (const when of ['before', 'after'] as const) {
      const home = new Home(5, MIB);
      await home.keepBaseline();
      home.leaveOldCopy([7, 200]);
      home.scribble(100);
      for (let more = cut; more < cut + 3; more++) home.replica.cuts.set(more, when);
      await home.cycle().catch((error: unknown) => assert(hasCode(error, 'unreachable'), String(error)));
      home.replica.cuts.clear();
      home.scribble(101);
      await home.cycle();
      home.assertEqual(`cut ${when} message ${cut}`);
    }
  }
});
