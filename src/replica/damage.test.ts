import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failureIn, hasCode } from '#/lib/failure.ts';
import { SeededRandom, integerBelow } from '#/lib/random.ts';
import { MemoryFileSystem } from '#/disk/memory-file-system.ts';
import { BareReplica } from './bare-replica.ts';
import { decodeHeader, decodeFooter, encodeFooter, encodeHeader } from './delta-format.ts';
import { readWhole } from './files.ts';
import { decodeLog, encodeLogHeader, encodeRecord } from './log-frame.ts';
import type { LogRecord, PointEntry } from './log-record.ts';
import { difference, fixedClock, IDENTITY, sha256, SourceModel } from './replica-fixture.ts';
import { createReplica } from './stored-replica.ts';
import { decodeSuperblock, encodeSuperblock, replicaTag } from './superblock.ts';

const TAG = replicaTag(IDENTITY.replicaId);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function isNamed(error: unknown): boolean {
  return hasCode(error, 'storage_corrupt') && failureIn(error)!.message.length > 10;
}

/** Every prefix and every flipped bit of an encoded thing is refused by name. */
function refusesDamage(bytes: Uint8Array, decode: (damaged: Uint8Array) => unknown): void {
  decode(bytes);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decode(bytes.subarray(0, length)), isNamed, `prefix of ${length}`);
  }
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(() => decode(damaged), isNamed, `bit ${bit}`);
  }
}

test('the superblock has these bytes, and no others are taken for one', () => {
  const bytes = encodeSuperblock(IDENTITY);
  const json =
    '{"replica_id":"r-1","vm":{"uuid":"6f1de2a2-0c3b-4c8f-9a30-51c1b1f0a001","name":"ledger"},"site_id":"east",' +
    `"digest_key":"${'5e'.repeat(32)}"}`;
  assert.equal(Buffer.from(bytes.subarray(16)).toString(), json);
  assert.equal(hex(bytes.subarray(0, 16)), '4150523100010000' + '000000ba' + 'fdb5b8d4');
  assert.deepEqual(decodeSuperblock(bytes), IDENTITY);
  refusesDamage(bytes, decodeSuperblock);
});

const POINT: PointEntry = {
  sequence: 1,
  stamp: '00112233445566778899aabbccddeeff',
  momentMs: 1_700_000_000_000,
  acknowledgedMs: 1_700_000_000_100,
  epoch: 3,
  consistency: 'crash',
  disks: [{ id: 1, key: 'vda', bytes: 4096, root: 'ff'.repeat(16) }],
  attachments: [{ kind: 'nvram', sha256: 'ab'.repeat(32), bytes: 7 }],
  bytes: 99,
};
const RECORDS: LogRecord[] = [
  { kind: 'first_copy', disks: [{ id: 1, key: 'vda', bytes: 4096 }] },
  { kind: 'point', point: POINT, deltas: [] },
  { kind: 'epoch', epoch: 4 },
  {
    kind: 'point',
    point: { ...POINT, sequence: 2 },
    deltas: [{ number: 1, first: 2, last: 2, level: 0, bytes: 512 }],
  },
  { kind: 'pruned', sequences: [1] },
  { kind: 'advanced', removed: 1, base: 2 },
];

function logOf(records: LogRecord[]): Uint8Array {
  return Buffer.concat([
    encodeLogHeader(TAG, 5),
    ...records.map((record, number) => encodeRecord(record, number)),
  ]);
}

test('the log has these bytes, and gives back every kind of record', () => {
  assert.equal(hex(encodeLogHeader(TAG, 5)), `41504c3100010000${hex(TAG)}000000051b650396`);
  const epoch = encodeRecord({ kind: 'epoch', epoch: 4 }, 2);
  assert.equal(hex(epoch.subarray(0, 20)), '41504c52' + '0000000b' + '00000002' + '01000000' + '986967ad');
  assert.equal(hex(TAG), 'a5fa777a3dc67268caea6eea038ba141');
  assert.equal(Buffer.from(epoch.subarray(20)).toString(), '{"epoch":4}');
  const content = decodeLog(logOf(RECORDS), TAG);
  assert.deepEqual(content.records, RECORDS);
  assert.equal(content.generation, 5);
});

test('a log cut anywhere gives the records before the cut; a flipped bit in one that others follow is damage', () => {
  const whole = logOf(RECORDS);
  const ends = RECORDS.map((_, index) => logOf(RECORDS.slice(0, index + 1)).length);
  for (let length = 32; length < whole.length; length++) {
    const content = decodeLog(whole.subarray(0, length), TAG);
    assert.equal(content.records.length, ends.filter((end) => end <= length).length);
    assert.equal(content.end + content.tornBytes, length);
  }
  for (let length = 0; length < 32; length++)
    assert.throws(() => decodeLog(whole.subarray(0, length), TAG), isNamed);
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const damaged = Uint8Array.from(whole);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    if (bit >> 3 < ends.at(-2)!) assert.throws(() => decodeLog(damaged, TAG), isNamed, `bit ${bit}`);
    else assert.equal(decodeLog(damaged, TAG).records.length, RECORDS.length - 1, `bit ${bit}`);
  }
});

test('the header and the footer of a delta file have these bytes, and no others are taken for them', () => {
  const header = {
    tag: TAG,
    stamp: POINT.stamp,
    first: 2,
    last: 5,
    part: 1,
    disks: [{ id: 7, bytes: 4096 }],
  };
  const bytes = encodeHeader(header);
  assert.equal(
    hex(bytes),
    `4150443100010001${hex(TAG)}${POINT.stamp}00000000000000020000000000000005` +
      `000000015d48dbad00000007000000000000000000001000`,
  );
  assert.deepEqual(decodeHeader(bytes, TAG, 'it'), header);
  refusesDamage(bytes, (damaged) => decodeHeader(damaged, TAG, 'it'));
  const table = { count: 0, crc: 0 };
  const footer = {
    segmentsEnd: 80,
    segmentCount: 3,
    tables: [{ offset: 80, locations: { count: 1, crc: 9 }, zeros: table, nodes: table }],
  };
  const end = encodeFooter(footer, 96);
  assert.equal(
    hex(end),
    '0000000000000050' +
      '00000001' +
      '00000009' +
      '00'.repeat(16) +
      '0000000000000050' +
      '00000003' +
      '0001' +
      '0001' +
      '0000000000000060' +
      '4e781c7e' +
      '41504445',
  );
  assert.deepEqual(decodeFooter(end, 96 + end.length, 'it'), footer);
  refusesDamage(end, (damaged) => decodeFooter(damaged, 96 + damaged.length, 'it'));
});

test('a flipped bit anywhere in a replica gives the point as it was, or a failure that names it, never other bytes', async () => {
  const seed = Date.now() % 2 ** 31;
  const random = new SeededRandom(seed);
  const files = new MemoryFileSystem();
  const model = new SourceModel(new SeededRandom(5));
  model.addDisk('vda', 1_200_000 - (1_200_000 % 512));
  model.scribble(8);
  await using replica = await createReplica({ files, clock: fixedClock() }, IDENTITY);
  const definition = new TextEncoder().encode('<domain/>');
  const attachment = { kind: 'definition' as const, sha256: sha256(definition), bytes: definition.length };
  await replica.putAttachment(attachment.sha256, definition);
  for (let i = 0; i < 4; i++) {
    await model.send(replica, [attachment]);
    model.scribble(3);
  }
  const paths = ['superblock', 'points.log', 'disks/1/base.digests', 'disks/1/base.tree'];
  for (const name of await files.list('deltas')) paths.push(`deltas/${name}`);
  let refused = 0;
  for (let i = 0; i < 300; i++) {
    const path = paths[i % paths.length]!;
    await using file = await files.open(path, 'read-write');
    const bytes = await readWhole(file, 2 ** 30);
    const bit = integerBelow(random, bytes.length * 8);
    await file.write(bit >> 3, Uint8Array.of(bytes[bit >> 3]! ^ (1 << (bit & 7))));
    try {
      const damaged = await BareReplica.open(files);
      const sequence = (await damaged.points()).at(-1)!.sequence;
      await using view = await damaged.openView(sequence);
      const found = await difference(view, model.points.get(sequence)!);
      assert.equal(found, undefined, `seed ${seed}, bit ${bit} of ${path}`);
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      assert.ok(isNamed(error), `seed ${seed}, bit ${bit} of ${path}: ${String(error)}`);
      refused++;
    }
    await file.write(bit >> 3, bytes.subarray(bit >> 3, (bit >> 3) + 1));
  }
  assert.ok(refused > 50);
  await using base = await files.open('disks/1/base', 'read-write');
  const byte = new Uint8Array(1);
  const at = (await readWhole(base, 2 ** 30)).findIndex((each) => each !== 0);
  await base.read(at, byte);
  await base.write(at, Uint8Array.of(byte[0]! ^ 1));
  const report = await replica.verify();
  assert.match(report.problems[0]!.where, /^point 1, vda, .*block \d+$/);
});
