import assert from 'node:assert/strict';
import { test } from 'node:test';
import { supersedes } from '#/lib/epoch-claim.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { CrashFileSystem, type Operation } from '#/replica/crash-file-system-fixture.ts';
import { Medium } from '#sim/medium.ts';
import type { FenceRecord } from './fence-record.ts';
import { FenceStore } from './fence-store.ts';

const UUID = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001';
const OTHER = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002';

function record(epoch: number, change: Partial<FenceRecord['claim']> = {}): FenceRecord {
  const signature = 's'.repeat(86);
  const claim = { vm_uuid: UUID, epoch, site_id: 'site-b', issued_ms: 1000 + epoch, signature, ...change };
  return { claim, siteName: 'east', vmName: 'ledger' };
}

const STEPS = [record(1), record(2), record(1, { vm_uuid: OTHER }), record(3), record(5)];

function afterPowerLoss(medium: Medium, seed: number): Medium {
  const after = medium.clone();
  after.crash(new SeededRandom(seed));
  return after;
}

async function loaded(medium: Medium): Promise<FenceStore> {
  const store = new FenceStore(new CrashFileSystem(medium), 'fence');
  assert.deepEqual(await store.load(), []);
  return store;
}

test('only a claim that supersedes the known one is recorded', async () => {
  const store = await loaded(new Medium());
  assert.equal(await store.raise(record(2)), true);
  assert.equal(await store.raise(record(2)), false);
  assert.equal(await store.raise(record(1)), false);
  assert.equal(await store.raise(record(2, { issued_ms: 1 })), false);
  assert.equal(await store.raise(record(2, { issued_ms: 9000, site_id: 'site-a' })), true);
  assert.equal(store.get(UUID)?.claim.site_id, 'site-a');
});

test('power lost before any step leaves a record whole, and none older than was promised', async () => {
  let crashes = 0;
  const seen = new Set<Operation>();
  const medium = new Medium();
  let promised: FenceRecord | undefined;
  let coming: FenceRecord | undefined;
  const before = async (operation: Operation): Promise<void> => {
    seen.add(operation);
    for (const seed of [1, 2, 3, 4, 5]) {
      crashes++;
      const after = await loaded(afterPowerLoss(medium, seed));
      const found = after.get(UUID);
      const message = `before ${operation}, seed ${seed}: ${found?.claim.epoch}`;
      const isGood =
        found === undefined
          ? promised === undefined
          : [promised, coming].some((one) => one?.claim.epoch === found.claim.epoch);
      assert(isGood, message);
      // The next start writes on from what is there.
      assert.equal(await after.raise(record(9)), true, message);
      assert.equal((await loaded(afterPowerLoss(medium, seed))).get(OTHER)?.claim.epoch ?? 1, 1);
    }
  };
  const store = new FenceStore(new CrashFileSystem(medium, { before }), 'fence');
  await store.load();
  for (const step of STEPS) {
    if (step.claim.vm_uuid === UUID) coming = step;
    await store.raise(step);
    if (step.claim.vm_uuid === UUID) promised = step;
  }
  for (const operation of ['create', 'write', 'datasync', 'rename', 'syncDirectory'] as const) {
    assert(seen.has(operation), `the sweep never reached ${operation}`);
  }
  assert(crashes > 100);
});

for (const forgotten of ['datasync', 'syncDirectory'] as const) {
  test(`the sweep would notice a store that forgets ${forgotten}`, async () => {
    let isNoticed = false;
    for (let seed = 0; seed < 50 && !isNoticed; seed++) {
      const medium = new Medium();
      const files = new CrashFileSystem(medium, { forgets: (operation) => operation === forgotten });
      const store = new FenceStore(files, 'fence');
      await store.load();
      await store.raise(record(2));
      const after = new FenceStore(new CrashFileSystem(afterPowerLoss(medium, seed)), 'fence');
      isNoticed = (await after.load()).length > 0 || after.get(UUID) === undefined;
    }
    assert(isNoticed);
  });
}

test('a store that cannot write says so and knows nothing new', async () => {
  const medium = new Medium();
  let isFull = false;
  const before = (operation: Operation): void => {
    if (isFull && operation === 'write') throw new Failure('storage_full', 'write');
  };
  const store = new FenceStore(new CrashFileSystem(medium, { before }), 'fence');
  await store.load();
  await store.raise(record(1));
  isFull = true;
  await assert.rejects(store.raise(record(2)), (error) => hasCode(error, 'storage_full'));
  assert.equal(store.get(UUID)?.claim.epoch, 1);
  isFull = false;
  assert.equal(await store.raise(record(2)), true);
});

test('a damaged record is told, stays on disk, and is replaced by the next claim; the others are read', async () => {
  const medium = new Medium();
  const files = new CrashFileSystem(medium);
  const store = await loaded(medium);
  await store.raise(record(2));
  await store.raise(record(1, { vm_uuid: OTHER }));
  {
    await using file = await files.open(`fence/${UUID}`, 'read-write');
    await file.write(60, Buffer.from('9'));
  }
  const again = new FenceStore(files, 'fence');
  const [failure, ...rest] = await again.load();
  assert.deepEqual(rest, []);
  assert(hasCode(failure, 'storage_corrupt'));
  assert.equal(again.get(UUID), undefined);
  assert.equal(again.get(OTHER)?.claim.epoch, 1);
  assert((await files.list('fence')).includes(UUID));
  assert.equal(await again.raise(record(2)), true);
  assert.deepEqual((await loaded(medium)).get(UUID), record(2));
});

test('the record of a check is gone with it, also when the check was cut by a crash', async () => {
  const medium = new Medium();
  const store = await loaded(medium);
  {
    await using _check = await store.check(OTHER);
    assert.deepEqual(await new CrashFileSystem(medium).list('fence'), [OTHER]);
    const other = await loaded(afterPowerLoss(medium, 1));
    assert.deepEqual(other.records(), []);
  }
  assert.deepEqual(await new CrashFileSystem(medium).list('fence'), []);
  assert.equal(supersedes(record(2).claim, record(1).claim), true);
});
