import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { DEFAULT_RETENTION } from '#/api/common.ts';
import { silentLog } from '#/lib/log.ts';
import { openDatabase, type Database } from './database.ts';
import { claimOf, findClaim, listClaims, putClaim, updateClaim, type ClaimRecord } from './claim-store.ts';
import { addGroup, dropGroup, listGroups, replaceGroup } from './group-store.ts';
import { dropMapping, listMappings, putMapping } from './mapping-store.ts';
import { addPlan, dropPlan, listPlans, replacePlan } from './plan-store.ts';
import { addEvent, eventsAfter, newestEvents, newestSequence, type NewEvent } from './event-store.ts';
import { addJob, beginStep, endStep, findJob, jobsInState, listJobs, setJobState } from './job-store.ts';
import { addMember, keepReport, listMembers, orderRevision, removeMember } from './member-store.ts';
import { listPeers, putPeer } from './peer-store.ts';
import { TestPostgresql } from './postgresql-fixture.ts';
import {
  addProtection,
  dropProtection,
  listProtections,
  reviseProtection,
  updateProtection,
  type Protection,
} from './protection-store.ts';
import {
  addReplica,
  dropReplica,
  listReplicas,
  reviseReplica,
  updateReplica,
  type ReplicaRecord,
} from './replica-store.ts';
import { readSetting, writeSetting } from './settings-store.ts';
import { addTask, findTask, orderedTasks, reportTask, withdrawTask } from './task-store.ts';
import { listVmFacts, putVmFacts } from './vm-facts-store.ts';
import { addAdmissionToken, findAdmissionToken, takeAdmissionToken } from './token-store.ts';

const NOW_MS = 1_790_000_000_000;

contract('SQLite', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-stores-'));
  return {
    url: `sqlite:${join(directory, 'manager.db')}`,
    end: () => rm(directory, { recursive: true, force: true }),
  };
});

contract('PostgreSQL', async () => {
  const cluster = await TestPostgresql.start();
  return { url: await cluster.database(), end: () => cluster[Symbol.asyncDispose]() };
});

/** What every database has to do for the manager. */
function contract(kind: string, start: () => Promise<{ url: string; end: () => Promise<void> }>): void {
  suite(`the stores on ${kind}`, () => {
    let place: Awaited<ReturnType<typeof start>>;
    let db: Database;

    before(async () => {
      place = await start();
      db = await openDatabase(place.url, silentLog);
    });

    after(async () => {
      await db.destroy();
      await place.end();
    });

    test('a database is migrated once, and opened again with what it holds', async () => {
      await writeSetting(db, 'site_id', 'site-1');
      await writeSetting(db, 'site_id', 'site-2');
      await db.destroy();
      db = await openDatabase(place.url, silentLog);
      assert.equal(await readSetting(db, 'site_id'), 'site-2');
      assert.equal(await readSetting(db, 'nothing'), undefined);
    });

    test('a database of a newer version is refused', async () => {
      const newer = { name: '9999-from-the-future', timestamp: new Date(NOW_MS).toISOString() };
      const table = db.withTables<{ kysely_migration: typeof newer }>();
      await table.insertInto('kysely_migration').values(newer).execute();
      await assert.rejects(openDatabase(place.url, silentLog), {
        code: 'config_invalid',
        message: /newer manager/,
      });
      await table.deleteFrom('kysely_migration').where('name', '=', newer.name).execute();
    });

    test('a claim takes the place of the one before, and is changed only while it is the one', async () => {
      const claim: ClaimRecord = {
        vm_uuid: 'vm-1',
        vm_name: 'ledger',
        epoch: 1,
        site_id: 'site-west',
        issued_ms: NOW_MS,
        signature: 'a',
        host_id: null,
        is_withdrawn: 0,
        related_site_ids: ['site-east'],
      };
      await putClaim(db, claim);
      const next = { ...claim, epoch: 2, signature: 'b', site_id: 'site-east' };
      await putClaim(db, next);
      await updateClaim(db, claim, { is_withdrawn: 1 });
      assert.deepEqual(await listClaims(db), [next]);
      await updateClaim(db, next, { is_withdrawn: 1, related_site_ids: ['site-east', 'site-north'] });
      const found = await findClaim(db, 'vm-1');
      assert.deepEqual([found?.is_withdrawn, found?.related_site_ids], [1, ['site-east', 'site-north']]);
      assert.deepEqual(Object.keys(claimOf(next)), ['vm_uuid', 'epoch', 'site_id', 'issued_ms', 'signature']);
      assert.equal(await findClaim(db, 'vm-2'), undefined);
    });

    test('a token is taken once, however many try at the same time, and not after it expired', async () => {
      const token = {
        secretSha256: 'a',
        kind: 'agent',
        createdMs: NOW_MS,
        expiresMs: NOW_MS + 1000,
      } as const;
      await addAdmissionToken(db, token);
      const use = { secretSha256: 'a', kind: 'agent', nowMs: NOW_MS + 1000, by: 'late' } as const;
      assert.equal(await takeAdmissionToken(db, use), false);
      const tries = await Promise.all(
        ['one', 'two', 'three'].map((by) => takeAdmissionToken(db, { ...use, nowMs: NOW_MS, by })),
      );
      assert.equal(tries.filter(Boolean).length, 1);
      const record = await findAdmissionToken(db, 'a');
      assert.equal(record?.usedMs, NOW_MS);
      assert(['one', 'two', 'three'].includes(record.usedBy ?? ''));
    });

    test('members are listed with their last report until they are removed', async () => {
      const member = { kind: 'agent', joined_ms: NOW_MS, certificate_expires_ms: NOW_MS } as const;
      await addMember(db, { ...member, id: 'host-1', name: 'one' });
      await addMember(db, { ...member, id: 'host-2', name: 'two', joined_ms: NOW_MS + 1 });
      await keepReport(db, 'host-1', { text: '{"a":1}', atMs: NOW_MS });
      await removeMember(db, 'host-2', NOW_MS);
      const members = await listMembers(db);
      assert.deepEqual(
        members.map((row) => [row.id, row.report, row.report_ms]),
        [['host-1', '{"a":1}', NOW_MS]],
      );
    });

    test('a revision rises when the content changes, and only then', async () => {
      const revisions = [];
      for (const hash of ['x', 'x', 'y', 'x']) revisions.push(await orderRevision(db, 'host-1', hash));
      assert.deepEqual(revisions, [1, 1, 2, 3]);
    });

    test('a site that pairs again replaces what was known of it', async () => {
      const peer = { site_id: 's', site_name: 'east', ca_pem: 'c', host: 'h', port: 1, paired_ms: NOW_MS };
      await putPeer(db, peer);
      await putPeer(db, { ...peer, port: 2 });
      assert.deepEqual({ ...(await listPeers(db))[0] }, { ...peer, port: 2 });
    });

    test('a protection comes back as it went in, once for a VM and a site, and changes only from a state it is in', async () => {
      const protection: Protection = {
        id: 'protection-1',
        vm_uuid: 'u',
        vm_name: 'ledger',
        host_id: 'host-1',
        target_site_id: 's',
        disks: ['vda'],
        rpo_ms: 5000,
        added_disks: 'report',
        retention: DEFAULT_RETENTION,
        scratch_bytes: 2 ** 40,
        state: 'requested',
        replica_id: null,
        epoch: 1,
        server: null,
        delete_replica: 0,
        created_ms: NOW_MS,
        from_old_copy: 0,
        revision: 1,
        told_revision: 1,
      };
      await addProtection(db, protection);
      await assert.rejects(addProtection(db, { ...protection, id: 'protection-2' }));
      assert.deepEqual(await listProtections(db), [protection]);
      const server = { site_id: 's', server_id: 'x', host: 'h', port: 7481 };
      const { id } = protection;
      assert(await updateProtection(db, { id, from: ['requested'] }, { state: 'active', server }));
      assert(!(await updateProtection(db, { id, from: ['requested'] }, { state: 'removing' })));
      assert.deepEqual(await listProtections(db), [{ ...protection, state: 'active', server }]);
      const revised = { rpo_ms: 9000, revision: 2 };
      assert(await reviseProtection(db, { id, from: 1 }, revised));
      assert(!(await reviseProtection(db, { id, from: 1 }, { rpo_ms: 1, revision: 2 })), 'of an older one');
      assert.deepEqual(await listProtections(db), [{ ...protection, state: 'active', server, ...revised }]);
      await dropProtection(db, id);
      assert.deepEqual(await listProtections(db), []);
    });

    test('a replica comes back as it went in', async () => {
      const replica: ReplicaRecord = {
        id: 'replica-1',
        protection_id: 'protection-1',
        vm_uuid: 'u',
        vm_name: 'ledger',
        source_site_id: 's',
        server_id: 'x',
        disks: [{ key: 'vda', bytes: 2 ** 50, need_bytes: 1 }],
        rpo_ms: 5000,
        retention: DEFAULT_RETENTION,
        epoch: 1,
        state: 'active',
        created_ms: NOW_MS,
        seed_sequence: null,
        seed_note: null,
        revision: 1,
        bookmarks: [],
      };
      await addReplica(db, replica);
      await updateReplica(db, replica.id, { epoch: 2 });
      assert.deepEqual(await listReplicas(db), [{ ...replica, epoch: 2 }]);
      const revised = { revision: 2, rpo_ms: 9000, retention: { keep_all_ms: 1, tiers: [] } };
      assert(await reviseReplica(db, { id: replica.id, from: 1 }, revised));
      assert(!(await reviseReplica(db, { id: replica.id, from: 1 }, { ...revised, rpo_ms: 1 })));
      assert.deepEqual(await listReplicas(db), [{ ...replica, epoch: 2, ...revised }]);
      await updateReplica(db, replica.id, { state: 'kept' });
      assert(!(await reviseReplica(db, { id: replica.id, from: 2 }, revised)), 'no longer protected');
      const facts = {
        host_name: 'west-host',
        memory_bytes: 2 ** 40,
        vcpu_count: 2,
        networks: ['lan'],
        disk_directories: ['/srv'],
        interfaces: [{ mac: '52:54:00:00:00:09', network: 'lan', addresses: ['10.1.0.5/24'] }],
      };
      await putVmFacts(db, replica.id, { facts: { ...facts, networks: [] }, nowMs: NOW_MS });
      await putVmFacts(db, replica.id, { facts, nowMs: NOW_MS });
      assert.deepEqual([...(await listVmFacts(db))], [[replica.id, facts]]);
      await dropReplica(db, replica.id);
      assert.equal((await listVmFacts(db)).size, 0, 'what was told of the VM goes with its replica');
    });

    test('a mapping takes the place of the one before of the same thing', async () => {
      const mapping = { peer_site_id: 's', kind: 'network', there: 'lan', here: 'lan-a' } as const;
      await putMapping(db, mapping);
      await putMapping(db, { ...mapping, kind: 'storage', there: '/srv', here: '/data' });
      await putMapping(db, { ...mapping, here: 'lan-b' });
      const rows = (await listMappings(db)).map((row) => ({ ...row }));
      assert.deepEqual(rows[0], { ...mapping, here: 'lan-b' });
      assert.equal(rows.length, 2);
      assert(await dropMapping(db, mapping));
      assert(!(await dropMapping(db, mapping)), 'it is gone');
    });

    test('a group and a plan come back as they went in, and no two have one name', async () => {
      const document = { name: 'shop', site: 'west', vms: ['ledger', 'b\u00fccher'] };
      const group = { id: 'group-1', name: 'shop', document, created_ms: NOW_MS, updated_ms: NOW_MS };
      await addGroup(db, group);
      await assert.rejects(addGroup(db, { ...group, id: 'group-2' }));
      const renamed = { ...document, name: 'store' };
      assert(await replaceGroup(db, 'group-1', { document: renamed, nowMs: NOW_MS + 1 }));
      const [changed] = await listGroups(db);
      assert.deepEqual(changed, { ...group, name: 'store', document: renamed, updated_ms: NOW_MS + 1 });
      await dropGroup(db, 'group-1');
      assert.deepEqual(await listGroups(db), []);

      const times = { created_ms: NOW_MS, updated_ms: NOW_MS };
      const plan = { id: 'plan-1', name: 'all', revision: 1, document: { name: 'all', groups: ['shop'] } };
      await addPlan(db, { ...plan, ...times });
      await assert.rejects(addPlan(db, { ...plan, ...times, id: 'plan-2' }));
      assert.deepEqual(await listPlans(db), [{ ...plan, ...times }]);
      await dropPlan(db, 'plan-1');
      assert.deepEqual(await listPlans(db), []);
    });

    test('of two changes of one revision of a plan one is taken', async () => {
      const times = { created_ms: NOW_MS, updated_ms: NOW_MS };
      const document = { name: 'all', groups: ['shop'] };
      await addPlan(db, { id: 'plan-1', name: 'all', revision: 1, document, ...times });
      const taken = await Promise.all(
        ['one', 'two'].map((description) =>
          replacePlan(db, 'plan-1', { from: 1, document: { ...document, description }, nowMs: NOW_MS }),
        ),
      );
      assert.equal(taken.filter(Boolean).length, 1);
      const [plan] = await listPlans(db);
      assert.equal(plan?.revision, 2);
      assert.equal(plan.document.description, taken[0] === true ? 'one' : 'two');
    });

    test('a task is ordered once, reported while it is under way, and its end is final', async () => {
      const body = { id: 't', kind: 'open_view', replica_id: 'replica-1', sequence: 0 } as const;
      const task = { id: 't', member_id: 'x', job_id: 'job-1', body, created_ms: NOW_MS };
      await addTask(db, task);
      await addTask(db, { ...task, member_id: 'another' });
      assert.equal((await findTask(db, 't'))?.member_id, 'x');
      const report = { id: 't', steps: [], progress: null, result: null, failure: null };
      assert(await reportTask(db, 'x', { ...report, state: 'running' }));
      assert(!(await reportTask(db, 'x', { ...report, state: 'running' })), 'nothing new');
      assert(!(await reportTask(db, 'stranger', { ...report, state: 'failed' })));
      assert(await reportTask(db, 'x', { ...report, state: 'done' }));
      assert(!(await reportTask(db, 'x', { ...report, state: 'failed' })));
      assert.equal((await orderedTasks(db, 'x')).length, 1, 'a view stays open');
      await withdrawTask(db, 't');
      assert.deepEqual(await orderedTasks(db, 'x'), []);
    });

    test('a job keeps its steps in order, and moves on only from the state it was seen in', async () => {
      const request = { purpose: 'test', vm_name: 'ledger' } as never;
      await addJob(db, { id: 'job-1', kind: 'recovery', replica_id: 'r', request, created_ms: NOW_MS });
      await beginStep(db, 'job-1', { position: 0, name: 'open_view', nowMs: NOW_MS });
      await endStep(db, 'job-1', { position: 0, failure: null, nowMs: NOW_MS + 5 });
      await beginStep(db, 'job-1', { position: 1, name: 'recover', nowMs: NOW_MS + 5 });
      await assert.rejects(beginStep(db, 'job-1', { position: 1, name: 'again', nowMs: NOW_MS }));
      const failure = { code: 'timeout', message: 'no sign of life', hint: null };
      await endStep(db, 'job-1', { position: 1, failure, nowMs: NOW_MS + 9 });
      const change = { from: 'running', state: 'failed', failure, nowMs: NOW_MS + 9 } as const;
      assert(await setJobState(db, 'job-1', change));
      assert(!(await setJobState(db, 'job-1', change)));
      const job = await findJob(db, 'job-1');
      assert.deepEqual(
        job?.steps.map((step) => [step.name, step.state, step.ended_ms]),
        [
          ['open_view', 'done', NOW_MS + 5],
          ['recover', 'failed', NOW_MS + 9],
        ],
      );
      assert.deepEqual(job.failure, failure);
      assert.equal((await jobsInState(db, ['failed'])).length, 1);
      assert.equal((await listJobs(db, 10, NOW_MS)).length, 0);
      assert.equal((await listJobs(db, 10, NOW_MS + 1)).length, 1);
    });

    test('an event that is reported twice is recorded once, and readers resume after any of them', async () => {
      const from = await newestSequence(db);
      const event = (id: string): NewEvent => ({
        at_ms: NOW_MS,
        kind: 'link.lost',
        severity: 'warning',
        subject_kind: 'vm',
        subject_id: 'u',
        message: 'the link is lost',
        reporter: 'host-1',
        reporter_event_id: id,
      });
      const first = await addEvent(db, event('1'));
      assert.equal(typeof first, 'number');
      assert.equal(await addEvent(db, event('1')), undefined);
      await addEvent(db, event('2'));
      const rows = await eventsAfter(db, from, 10);
      assert.deepEqual(
        rows.map((row) => row.reporter_event_id),
        ['1', '2'],
      );
      assert.deepEqual(await eventsAfter(db, first!, 10), rows.slice(1));
      assert.deepEqual(await newestEvents(db, 1), rows.slice(1));
    });

    test('what a transaction did before it failed is not there', async () => {
      const failed = db.transaction().execute(async (at) => {
        await writeSetting(at, 'half', 'done');
        throw new Error('cut');
      });
      await assert.rejects(failed, /cut/);
      assert.equal(await readSetting(db, 'half'), undefined);
    });
  });
}

test('a database that is not there is named with the way out', async () => {
  const url = 'postgresql:///antipode?host=%2Fnowhere&user=postgres';
  await assert.rejects(openDatabase(url, silentLog), { code: 'unreachable', hint: /database_url/ });
  await assert.rejects(openDatabase('mysql://x', silentLog), { code: 'config_invalid' });
});
