import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { decodeFence, encodeFence, type FenceRecord } from './fence-record.ts';

const RECORD: FenceRecord = {
  claim: {
    vm_uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001',
    epoch: 2,
    site_id: 'site-0c4f1a',
    issued_ms: 1_795_377_600_000,
    signature: 'lJ0'.padEnd(86, 'x'),
  },
  siteName: 'east',
  vmName: 'the ledger',
};

const GOLDEN = `antipode-fence 1
vm 7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001
epoch 2
site site-0c4f1a
issued 1795377600000
signature ${'lJ0'.padEnd(86, 'x')}
site-name east
vm-name the ledger
crc32 2409a5eb
`;

const isCorrupt = (error: unknown): boolean => hasCode(error, 'storage_corrupt');

test('a fence record is these bytes, and is read back from them', () => {
  assert.equal(Buffer.from(encodeFence(RECORD)).toString(), GOLDEN);
  assert.deepEqual(decodeFence(Buffer.from(GOLDEN)), RECORD);
});

test('no beginning of a record, no record with something after it, and no flipped bit is taken for a record', () => {
  const bytes = Buffer.from(GOLDEN);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(() => decodeFence(bytes.subarray(0, length)), isCorrupt, `${length} bytes`);
  }
  for (const more of ['\n', 'x', '\0', GOLDEN]) {
    assert.throws(() => decodeFence(Buffer.concat([bytes, Buffer.from(more)])), isCorrupt);
  }
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const torn = Buffer.from(bytes);
    torn[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(() => decodeFence(torn), isCorrupt, `bit ${bit}`);
  }
});

test('random lines in random order are refused as corrupt, never otherwise', () => {
  const seed = 20_260;
  const random = new SeededRandom(seed);
  const lines = [...GOLDEN.split('\n'), 'epoch 0', 'epoch 1e3', 'vm ../../x', '\u0000', 'site ', 'é'];
  for (let round = 0; round < 3000; round++) {
    const count = integerBelow(random, 14);
    const text = Array.from({ length: count }, () => lines[integerBelow(random, lines.length)]).join('\n');
    if (text === GOLDEN) continue;
    assert.throws(() => decodeFence(Buffer.from(text)), isCorrupt, `seed ${seed} round ${round}`);
  }
});

test('a record that could not be read back is not written: names that make lines or move a terminal, other numbers', () => {
  const refused: Partial<FenceRecord>[] = [
    { vmName: 'a\nepoch 9' },
    { siteName: '\u001b[2J' },
    { vmName: '' },
    { vmName: 'x'.repeat(256) },
    { claim: { ...RECORD.claim, epoch: 0 } },
    { claim: { ...RECORD.claim, epoch: 1_000_000_000 } },
    { claim: { ...RECORD.claim, epoch: 1.5 } },
    { claim: { ...RECORD.claim, vm_uuid: '../../etc/passwd' } },
    { claim: { ...RECORD.claim, site_id: 'Site' } },
    { claim: { ...RECORD.claim, signature: '' } },
  ];
  for (const change of refused) {
    assert.throws(() => encodeFence({ ...RECORD, ...change }), isCorrupt, JSON.stringify(change));
  }
});
