/** Two managers of one site on one PostgreSQL, each with a connection of its own, on a clock that is moved by hand. */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { silentLog } from '#/lib/log.ts';
import { ManualClock } from '#/lib/manual-clock.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Changes } from './changes.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import { EventLog } from './event-log.ts';
import type { HandoverSteps } from './handover-steps.ts';
import { Inventory } from './inventory.ts';
import { JOB_LEASE_MS, JobLease } from './job-lease.ts';
import type { Peers } from './peers.ts';
import { RecoveryEngine } from './recovery-engine.ts';
import { doneTask, VIEW } from './site-fixture.ts';
import { openDatabase, type Database } from './store/database.ts';
import { addJob, findJob, setJobState, type Job } from './store/job-store.ts';
import { writeSetting } from './store/settings-store.ts';
import { TestPostgresql } from './store/postgresql-fixture.ts';
import { findTask, reportTask } from './store/task-store.ts';

let cluster: TestPostgresql;
let clock: ManualClock;
let databases: Database[];
before(async () => {
  cluster = await TestPostgresql.start();
});
beforeEach(async () => {
  const url = await cluster.database();
  clock = new ManualClock();
  databases = [await openDatabase(url, silentLog), await openDatabase(url, silentLog)];
});
after(() => cluster[Symbol.asyncDispose]());

async function closed(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } finally {
    for (const db of databases) await db.destroy();
  }
}

const leaseOf = (index: number, managerId = `manager-${index}`): JobLease =>
  new JobLease({ db: databases[index]!, clock, managerId });

function write(db: Database, lease: JobLease, value: string): Promise<void> {
  return db.transaction().execute(async (at) => {
    await writeSetting(at, 'written_by', value);
    await lease.fence(at);
  });
}

async function written(): Promise<string | undefined> {
  const row = await databases[0]!
    .selectFrom('settings')
    .selectAll()
    .where('name', '=', 'written_by')
    .executeTakeFirst();
  return row?.value;
}

test('one manager holds the lease; another takes it over when it runs out, and the late one writes nothing', () =>
  closed(async () => {
    const [first, second] = [leaseOf(0), leaseOf(1)];
    assert.deepEqual([await first.hold(), await second.hold()], [true, false]);
    await write(databases[0]!, first, 'first');
    clock.advance(JOB_LEASE_MS - 1);
    assert.equal(await second.hold(), false);
    assert.equal(await first.hold(), true, 'it is renewed');
    clock.advance(JOB_LEASE_MS + 1);
    assert.equal(await second.hold(), true);
    await write(databases[1]!, second, 'second');
    await assert.rejects(write(databases[0]!, first, 'late'), {
      code: 'conflict',
      message: /another manager/,
    });
    assert.equal(await written(), 'second');
    assert.equal(await first.hold(), false);
    await second.release();
    assert.equal(await first.hold(), true, 'at once after a release');
  }));

test('a manager that starts again does not wait for itself, and its earlier process writes nothing', () =>
  closed(async () => {
    const earlier = leaseOf(0, 'manager-a');
    assert.equal(await earlier.hold(), true);
    clock.advance(1);
    const again = leaseOf(1, 'manager-a');
    assert.equal(await again.hold(), true);
    await assert.rejects(write(databases[0]!, earlier, 'earlier'), { code: 'conflict' });
    assert.equal(await earlier.hold(), false);
  }));

test('of managers that ask at the same time one gets it', () =>
  closed(async () => {
    for (let round = 0; round < 20; round++) {
      const leases = [leaseOf(0), leaseOf(1)];
      const held = await Promise.all(leases.map((lease) => lease.hold()));
      assert.equal(held.filter(Boolean).length, 1, `round ${round}`);
      clock.advance(JOB_LEASE_MS + 1);
    }
  }));

async function engineOn(index: number): Promise<RecoveryEngine> {
  const db = databases[index]!;
  const changes = new Changes();
  const random = new SeededRandom(index);
  const events = new EventLog(`manager-${index}`, { changes, clock, random });
  const inventory = await Inventory.load(db, clock, changes);
  const context = { db, clock, random, log: silentLog, changes, events, inventory } as unknown as Context;
  const at = { handover: {} as HandoverSteps, lease: leaseOf(index) };
  return new RecoveryEngine(context, {} as Peers, {} as Claims, at);
}

test('a recovery is carried out by one manager, and by the other one once that has died', () =>
  closed(async () => {
    const [db] = databases;
    const request = {
      purpose: 'test',
      vm_name: 'ledger',
      name: 'ledger-test',
      point: 0,
      server_id: 'server-1',
    };
    const job = { id: 'job-1', kind: 'recovery', replica_id: 'replica-1', created_ms: clock.now() } as const;
    await addJob(db!, { ...job, request: { ...request, host_id: 'host-1' } as unknown as Job['request'] });
    const [first, second] = [await engineOn(0), await engineOn(1)];
    await first.advance();
    assert.equal((await findTask(db!, 'job-1-view'))?.state, 'ordered');
    await reportTask(db!, 'server-1', doneTask('job-1-view', VIEW));
    await second.advance();
    assert.equal(
      (await findJob(db!, 'job-1'))?.steps[0]?.state,
      'running',
      'it is the other one that goes on',
    );
    clock.advance(JOB_LEASE_MS + 1);
    await second.advance();
    assert.equal((await findJob(db!, 'job-1'))?.steps[0]?.state, 'done');
    await setJobState(db!, 'job-1', { from: 'running', state: 'cleaning', nowMs: clock.now() });
    await first.advance();
    assert.equal((await findJob(db!, 'job-1'))?.steps.length, 1, 'the late one does nothing more');
    await second.advance();
    assert.deepEqual(
      (await findJob(db!, 'job-1'))?.steps.map(({ name }) => name),
      ['open_view', 'close_view'],
    );
  }));
