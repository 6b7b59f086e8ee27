import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SeededRandom } from '#/lib/random.ts';
import { compileRun } from './compile-run.ts';
import { priorityGroups } from './priorities.ts';
import { inGuest, message, planOf, planVm, randomPlan } from './run-fixture.ts';
import type { RunPlan, RunVm } from './run-plan.ts';
import type { StepSpec } from './run-step.ts';
import { leftOutNote } from './vm-steps.ts';

const KINDS = ['test', 'migration', 'disaster', 'failback'] as const;
const ROUNDS = 300;

/** Keys of everything that is over before the step begins. */
function before(steps: readonly StepSpec[], key: string): Set<string> {
  const byKey = new Map(steps.map((step) => [step.key, step]));
  const seen = new Set<string>();
  const visit = (at: string): void => {
    for (const earlier of byKey.get(at)!.after) {
      if (seen.has(earlier)) continue;
      seen.add(earlier);
      visit(earlier);
    }
  };
  visit(key);
  return seen;
}

test('whatever the plan, its steps name steps before them, once each, and keep the order of priorities and dependencies', () => {
  const seed = Number(process.env['ANTIPODE_SEED'] ?? Date.now() % 1_000_000);
  const hint = `seed ${seed}; again with ANTIPODE_SEED=${seed}`;
  const random = new SeededRandom(seed);
  for (let round = 0; round < ROUNDS; round++) {
    const plan = randomPlan(random, KINDS[round % 4]!);
    const steps = compileRun(plan);
    checkForm(steps, hint);
    const groups = priorityGroups(plan.vms);
    for (const [index, group] of groups.entries()) {
      const earlierVms = groups.slice(0, index).flatMap(({ vms }) => vms);
      for (const vm of group.vms) checkOrder({ plan, steps, hint }, vm, earlierVms);
    }
  }
});

/** Who is named stands before, so there is no circle. */
function checkForm(steps: readonly StepSpec[], hint: string): void {
  const known = new Set<string>();
  for (const step of steps) {
    for (const key of step.after) assert(known.has(key), `${hint}: ${step.key} after ${key}`);
    for (const key of step.needs) assert(step.after.includes(key), `${hint}: ${step.key} needs ${key}`);
    assert(step.undoes === null || known.has(step.undoes), `${hint}: ${step.key} undoes ${step.undoes}`);
    assert(!known.has(step.key), `${hint}: two steps ${step.key}`);
    assert.match(step.key, /^[0-9a-z][0-9a-z-]{0,40}$/);
    known.add(step.key);
  }
}

function checkOrder(
  { plan, steps, hint }: { plan: RunPlan; steps: readonly StepSpec[]; hint: string },
  vm: RunVm,
  earlierVms: readonly RunVm[],
): void {
  const key = (uuid: string, what: string): string =>
    `vm${plan.vms.findIndex(({ vmUuid }) => vmUuid === uuid) + 1}-${what}`;
  const earlier = before(steps, key(vm.vmUuid, 'recover'));
  for (const other of earlierVms) {
    assert(earlier.has(key(other.vmUuid, 'recover')), `${hint}: ${vm.vmName} after ${other.vmName}`);
  }
  const health = steps.filter(
    ({ vmUuid, phase, body }) =>
      vm.dependsOn.includes(vmUuid ?? '') &&
      phase === 'forward' &&
      !['stand_alone', 'shut_down', 'last_cycle'].includes(body.kind),
  );
  for (const step of health) assert(earlier.has(step.key), `${hint}: ${vm.vmName} after ${step.key}`);
  const down = key(vm.vmUuid, 'shut-down');
  if (steps.some((step) => step.key === down)) {
    const downBefore = before(steps, down);
    for (const uuid of vm.dependsOn) assert(!downBefore.has(key(uuid, 'shut-down')), hint);
  }
  if (plan.kind !== 'migration' && plan.kind !== 'failback') return;
  for (const other of plan.vms) {
    assert(earlier.has(key(other.vmUuid, 'last-cycle')), `${hint}: all last cycles before any start`);
  }
}

test('what is depended on takes the priority of whom depends on it, so a dependency holds across priorities', () => {
  const database = planVm('database', { priority: 5 });
  const web = planVm('web', { priority: 1, dependsOn: ['uuid-database'] });
  const other = planVm('other', { priority: 2 });
  const groups = priorityGroups([web, other, database]);
  assert.deepEqual(
    groups.map(({ priority, vms }) => [priority, vms.map(({ vmName }) => vmName)]),
    [
      [1, ['database', 'web']],
      [2, ['other']],
    ],
  );
});

test('of a VM that is left off nothing follows its recovery but its disks, and the step says what is left out', () => {
  const change: Partial<RunVm> = {
    start: 'off',
    before: [message('ready?')],
    health: [{ kind: 'agent' }, { kind: 'tcp', port: 80 }],
    customize: { by: 'agent', hostName: 'new', addresses: [] },
    after: [message('well?')],
  };
  const off = planVm('spare', change);
  for (const [kind, more] of [
    ['test', []],
    ['disaster', ['vm1-alone']],
  ] as const) {
    const steps = compileRun(planOf(kind, [{ ...off, isSourceSilent: true }]));
    const own = steps.filter(({ phase, vmUuid }) => phase === 'forward' && vmUuid === off.vmUuid);
    assert.deepEqual(
      own.map(({ key }) => key),
      ['vm1-before-1', 'vm1-recover', ...more],
    );
    assert.equal(own[1]!.name, 'define spare and leave it off');
  }
  assert.equal(
    leftOutNote(off),
    'left off; its probes and its steps after were left out; addresses were not changed',
  );
  assert.equal(leftOutNote(planVm('spare', { start: 'off' })), 'left off');
  const byDisk: Partial<RunVm> = { customize: { by: 'disk', hostName: 'new', addresses: [] } };
  assert.equal(leftOutNote(planVm('web', byDisk)), null);
  assert.equal(leftOutNote(planVm('web', { ...byDisk, start: 'off' })), 'left off');
  assert.equal(leftOutNote(planVm('web', { ...change, start: 'on' })), null);
});

test('a circle of dependencies is refused by the names of its VMs', () => {
  const a = planVm('a', { dependsOn: ['uuid-b'] });
  const b = planVm('b', { dependsOn: ['uuid-a'] });
  assert.throws(() => compileRun(planOf('test', [a, b])), { code: 'usage_invalid', message: /circle: a, b/ });
});

test('the steps of a migration stand in the order of the documents', () => {
  const plan = planOf(
    'migration',
    [
      planVm('db', {
        priority: 1,
        health: [{ kind: 'tcp', port: 5432 }, { kind: 'agent' }],
        customize: { by: 'agent', hostName: 'db', addresses: [] },
        after: [inGuest('warm up')],
      }),
      planVm('web', { priority: 2, before: [message('ready for web?')] }),
    ],
    {
      before: [message('sure?')],
      after: [{ ...message('tell all'), in: ['disaster'] }],
      priorities: { '2': { before: [], after: [inGuest('check', 'web')] } },
      suspend: [{ hostId: 'host-1', vmUuid: 'uuid-idle', vmName: 'idle' }],
    },
  );
  assert.deepEqual(
    compileRun(plan).map(({ key }) => key),
    [
      'plan-before-1',
      'suspend-1',
      'suspended',
      'vm2-shut-down',
      'vm2-last-cycle',
      'down-2',
      'vm1-shut-down',
      'vm1-last-cycle',
      'down-1',
      'all-equal',
      'vm1-recover',
      'vm1-sign-1',
      'vm1-addresses',
      'vm1-probe-1',
      'vm1-after-1',
      'vm1-alone',
      'p1-up',
      'vm2-before-1',
      'vm2-recover',
      'vm2-alone',
      'p2-up',
      'p2-after-1',
      'resume-1',
      'vm1-start-again',
      'again-1',
      'vm2-start-again',
      'again-2',
      'undo-resume-1',
    ],
  );
});
