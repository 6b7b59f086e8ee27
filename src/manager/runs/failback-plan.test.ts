import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Check } from 'typebox/value';
import { MovedPlan } from '#/api/moved-plans.ts';
import type { ReplicaRecord } from '#/manager/store/replica-store.ts';
import { compileRun } from './compile-run.ts';
import { turnRound } from './failback-plan.ts';
import { inGuest, message } from './run-fixture.ts';

const DB = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001';
const WEB = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002';
const AWAY = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1003';

const vm = (uuid: string, name: string, change: Partial<MovedPlan['vms'][number]> = {}) => ({
  vm_uuid: uuid,
  vm_name: name,
  priority: 3,
  depends_on: [],
  start: 'on' as const,
  shut_down: 'guest' as const,
  shut_down_timeout_ms: 60_000,
  health: [],
  before: [],
  after: [],
  has_other_addresses: false,
  ...change,
});

const MOVED: MovedPlan = {
  run_id: 'run-1',
  plan: 'shop',
  vms: [
    vm(DB, 'db', {
      priority: 1,
      health: [{ kind: 'agent' }, { kind: 'tcp', port: 5432, address: '10.2.0.5' }],
      has_other_addresses: true,
    }),
    vm(WEB, 'web', { priority: 2, depends_on: [DB, AWAY], after: [inGuest('warm up', WEB)] }),
  ],
  before: [message('sure?')],
  after: [inGuest('look', AWAY), { ...message('only there'), in: ['migration'] }],
  priorities: { '1': { before: [], after: [message('database is up')] } },
};

const replica = (uuid: string): ReplicaRecord =>
  ({ id: `replica-${uuid}`, vm_uuid: uuid, source_site_id: 'site-east' }) as ReplicaRecord;

test('the way home has the order and the steps of the plan, own networks, and own addresses in place of those given', () => {
  assert(Check(MovedPlan, MOVED));
  const { plan, notes, unprotected } = turnRound(MOVED, [replica(DB), replica(WEB)]);
  assert.deepEqual(unprotected, []);
  assert.deepEqual(notes, [
    'db is probed at the addresses that its guest tells, not at those of the plan',
    'step "look" is left out: its VM does not come along',
  ]);
  const [db, web] = plan.vms;
  assert.deepEqual([db!.replicaId, db!.sourceSiteId, db!.networks], [`replica-${DB}`, 'site-east', {}]);
  assert.deepEqual([db!.restore, db!.customize, web!.restore], [true, null, undefined]);
  assert.deepEqual(db!.health, [{ kind: 'agent' }, { kind: 'tcp', port: 5432 }]);
  assert.deepEqual(web!.dependsOn, [DB]);
  const keys = compileRun(plan)
    .filter(({ phase }) => phase === 'forward')
    .map(({ key }) => key);
  assert.deepEqual(keys, [
    'plan-before-1',
    'vm2-shut-down',
    'vm2-last-cycle',
    'down-2',
    'vm1-shut-down',
    'vm1-last-cycle',
    'down-1',
    'all-equal',
    'vm1-recover',
    'vm1-sign-1',
    'vm1-own-addresses',
    'vm1-probe-1',
    'vm1-alone',
    'p1-up',
    'p1-after-1',
    'vm2-recover',
    'vm2-after-1',
    'vm2-alone',
    'p2-up',
  ]);
});

test('a VM that is not protected to this site is named, and the others are planned without it', () => {
  const { plan, unprotected } = turnRound(MOVED, [replica(WEB)]);
  assert.deepEqual(unprotected, ['db']);
  assert.deepEqual(
    plan.vms.map(({ vmName }) => vmName),
    ['web'],
  );
});
