import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PlanProblem } from '#/api/plan-files.ts';
import type { PlanDocument, PlanStep } from '#/api/plans.ts';
import type { PlanFacts } from './plan-facts.ts';
import { groupOf, planFacts, planOf, replicaOf, uuidOf, vmFacts } from './plan-fixture.ts';
import { resolvePlan, surveyPlan } from './resolved-plan.ts';

test('a bare plan gives every VM the defaults, on networks of the same name here', () => {
  const { vms, ...plan } = resolvePlan(planOf(), planFacts());
  assert.deepEqual(plan, {
    id: 'plan-1',
    revision: 3,
    name: 'all',
    before: [],
    after: [],
    priorities: {},
    suspend: [],
    test: { networks: 'one', router: {}, every_ms: null },
  });
  assert.deepEqual(
    vms.map(({ vm_name }) => vm_name),
    ['app', 'db', 'web'],
  );
  assert.deepEqual(vms[0], {
    replica_id: 'replica-app',
    vm_uuid: uuidOf('app'),
    vm_name: 'app',
    source_site_id: 'site-west',
    group: 'shop',
    priority: 3,
    depends_on: [],
    start: 'on',
    shut_down: 'guest',
    shut_down_timeout_ms: 300_000,
    networks: { lan: 'lan' },
    storage_path: null,
    host: null,
    health: [],
    before: [],
    after: [],
    host_name: null,
    addresses: [],
    customize_by: 'agent',
    customize_on_failure: 'abort',
  });
});

test('what a VM depends on comes no later than that VM, through any number of others', () => {
  const vms = {
    web: { priority: 1, depends_on: ['app'] },
    app: { priority: 4, depends_on: [uuidOf('db')] },
    db: { priority: 5 },
  };
  const { resolved, problems } = surveyPlan(planOf({ vms }), planFacts());
  assert.deepEqual(
    resolved.vms.map(({ vm_name, priority, depends_on }) => [vm_name, priority, depends_on]),
    [
      ['app', 1, [uuidOf('db')]],
      ['db', 1, []],
      ['web', 1, [uuidOf('app')]],
    ],
  );
  assert.deepEqual(
    problems.map(({ severity, at }) => [severity, at]),
    [
      ['warning', '/plan/vms/app'],
      ['warning', '/plan/vms/db'],
    ],
  );
});

test('a chain of dependencies as long as a plan may be is followed', () => {
  const names = Array.from({ length: 1000 }, (_, index) => `vm${index}`);
  const replicas = names.map((name, index) => ({
    ...replicaOf(name),
    vm_uuid: `uuid-${String(index).padStart(4, '0')}`,
  }));
  const vms = Object.fromEntries(names.slice(1).map((name, index) => [name, { depends_on: [`vm${index}`] }]));
  const facts = planFacts({ groups: [groupOf('shop', names)], replicas });
  const { problems } = surveyPlan(
    planOf({ vms: { ...vms, vm999: { ...vms['vm999'], priority: 1 } } }),
    facts,
  );
  assert.equal(problems.filter(({ severity }) => severity === 'error').length, 0);
  assert(problems.some(({ message }) => /vm0 comes with priority 1/.test(message)));
});

test('mappings place VMs, the innermost directory counts, and what the plan says of a VM counts more', () => {
  const of = { peer_site_id: 'site-west' } as const;
  const facts = planFacts({
    mappings: [
      { ...of, kind: 'network', there: 'lan', here: 'lan-b' },
      { ...of, kind: 'host', there: 'west-host', here: 'east-host' },
      { ...of, kind: 'storage', there: '/var/lib', here: '/srv/slow' },
      { ...of, kind: 'storage', there: '/var/lib/libvirt', here: '/srv/fast' },
      { ...of, kind: 'storage', there: '/var/lib/libvirt/im', here: '/srv/wrong' },
      { ...of, peer_site_id: 'site-north', kind: 'network', there: 'lan', here: 'default' },
    ],
  });
  const vms = { web: { networks: { lan: 'default' }, host: 'host-1', storage_path: '/srv/web' } };
  const { vms: resolved } = resolvePlan(planOf({ vms }), facts);
  const [app, , web] = resolved;
  assert.deepEqual(
    [app?.networks, app?.host, app?.storage_path],
    [{ lan: 'lan-b' }, 'east-host', '/srv/fast'],
  );
  assert.deepEqual([web?.networks, web?.host, web?.storage_path], [{ lan: 'default' }, 'host-1', '/srv/web']);
});

test('programs in guests name their VM by its UUID, wherever they stand', () => {
  const guest = (vm?: string): PlanStep => ({
    kind: 'guest',
    name: 'run it',
    path: '/bin/true',
    ...(vm === undefined ? {} : { vm }),
  });
  const plan = resolvePlan(
    planOf({
      vms: { db: { priority: 1, after: [guest()] }, web: { depends_on: ['db'], before: [guest('db')] } },
      priorities: { '2': { before: [guest('db')], after: [guest('db')] } },
      after: [guest('web')],
    }),
    planFacts(),
  );
  const [db, , web] = plan.vms;
  const steps = [db?.after, web?.before, plan.priorities['2']?.before, plan.priorities['2']?.after];
  for (const step of steps.flat()) assert.equal(step?.kind === 'guest' && step.vm, uuidOf('db'));
  assert.equal(plan.after[0]?.kind === 'guest' && plan.after[0].vm, uuidOf('web'));
});

type Bad = {
  plan?: Partial<PlanDocument>;
  facts?: Partial<PlanFacts>;
  severity?: PlanProblem['severity'];
  message: RegExp;
  at: string;
};
const guestStep = { kind: 'guest', name: 'warm up', path: '/bin/true' } as const;

const BAD: Record<string, Bad> = {
  'a circle of dependencies': {
    plan: {
      vms: { web: { depends_on: ['app'] }, app: { depends_on: ['db'] }, db: { depends_on: ['web'] } },
    },
    message: /in a circle: web -> app -> db -> web/,
    at: '/plan/vms/web/depends_on',
  },
  'a VM that depends on itself': {
    plan: { vms: { db: { depends_on: ['db'] } } },
    message: /in a circle: db -> db/,
    at: '/plan/vms/db/depends_on',
  },
  'a dependency on a VM that is not in the plan': {
    plan: { vms: { web: { depends_on: ['cache'] } } },
    message: /web depends on cache, which is not in the plan/,
    at: '/plan/vms/web/depends_on/0',
  },
  'a dependency on a VM that is left off': {
    plan: { vms: { web: { depends_on: ['db'] }, db: { start: 'off' } } },
    message: /web depends on db, which the plan leaves off/,
    at: '/plan/vms/web/depends_on/0',
  },
  'a VM in two groups': {
    plan: { groups: ['shop', 'more'] },
    facts: { groups: [groupOf('shop', ['web', 'db']), groupOf('more', [uuidOf('db')])] },
    message: /VM db is in groups shop and more/,
    at: '/plan/groups/1',
  },
  'a VM twice in one group': {
    facts: { groups: [groupOf('shop', ['db', uuidOf('db')])] },
    message: /VM db is twice in group shop/,
    at: '/plan/groups/0',
  },
  'a group that is not there': {
    plan: { groups: ['shop', 'nothing'] },
    message: /there is no protection group nothing/,
    at: '/plan/groups/1',
  },
  'a group of a site that is not paired': {
    facts: { sites: [] },
    message: /group shop is of site "west", which this site is not paired with/,
    at: '/plan/groups/0',
  },
  'a VM without a replica here': {
    facts: { groups: [groupOf('shop', ['web', 'ghost'])] },
    message: /group shop has VM ghost, of which this site keeps no replica from west/,
    at: '/plan/groups/0',
  },
  'a VM by a name that several have': {
    facts: {
      groups: [groupOf('shop', ['web'])],
      replicas: [replicaOf('web'), { ...replicaOf('web'), vm_uuid: 'other' }],
    },
    message: /several VMs of west have that name/,
    at: '/plan/groups/0',
  },
  'settings of a VM that is in no group of the plan': {
    plan: { vms: { cache: { priority: 1 } } },
    message: /settings for VM cache, which is in none of its groups/,
    at: '/plan/vms/cache',
  },
  'settings of a VM by its name and by its UUID': {
    plan: { vms: { web: { priority: 1 }, [uuidOf('web')]: { priority: 2 } } },
    message: /settings for VM web twice/,
    at: `/plan/vms/${uuidOf('web')}`,
  },
  'a program in a guest that says in which VM neither by its place nor by a name': {
    plan: { after: [{ kind: 'message', name: 'm', text: 't' }, guestStep] },
    message: /"warm up" runs a program in a guest, and says in which VM neither/,
    at: '/plan/after/1',
  },
  'a program in a VM that is not in the plan': {
    plan: { after: [{ ...guestStep, vm: 'cache' }] },
    message: /"warm up" runs in VM cache, which is not in the plan/,
    at: '/plan/after/0/vm',
  },
  'a program in a VM before the plan brings it up': {
    plan: { before: [{ ...guestStep, vm: 'web' }] },
    message: /"warm up" runs in VM web before that is up/,
    at: '/plan/before/0',
  },
  'a program in a VM of a later priority': {
    plan: { priorities: { '2': { after: [{ ...guestStep, vm: 'web' }] } } },
    message: /"warm up" runs in VM web before that is up/,
    at: '/plan/priorities/2/after/0',
  },
  'a program in a VM before its own start': {
    plan: { vms: { web: { before: [guestStep] } } },
    message: /"warm up" runs in VM web before that is up/,
    at: '/plan/vms/web/before/0',
  },
  'a program in a VM that is left off': {
    plan: { vms: { web: { start: 'off', after: [guestStep] } } },
    message: /"warm up" runs in VM web, which the plan leaves off/,
    at: '/plan/vms/web/after/0',
  },
  'a VM that is recovered and suspended': {
    plan: { suspend: ['web'] },
    message: /VM web is both recovered by the plan and suspended for it/,
    at: '/plan/suspend/0',
  },
  'a VM to suspend that is not here': {
    plan: { suspend: ['build', 'nobody'] },
    severity: 'blocks_runs',
    message: /VM nobody is to be suspended/,
    at: '/plan/suspend/1',
  },
  'a network that is mapped to none': {
    facts: { vms: new Map([['replica-web', vmFacts({ networks: ['dmz'] })]]) },
    severity: 'blocks_runs',
    message: /network dmz of VM web is mapped to none of this site/,
    at: '/plan',
  },
  'a network that is mapped to one that is not there': {
    plan: { vms: { web: { networks: { lan: 'nowhere' } } } },
    severity: 'blocks_runs',
    message: /network lan of VM web becomes nowhere, which no host of this site has/,
    at: '/plan/vms/web/networks/lan',
  },
  'a host that is not there': {
    plan: { vms: { web: { host: 'nobody' } } },
    severity: 'blocks_runs',
    message: /VM web is to come up on host nobody, which this site has not/,
    at: '/plan/vms/web/host',
  },
};

const fixed = (...ipv4: string[]) => ({ addresses: [{ nic: 0, ipv4 }] });
const told = (...addresses: string[]) =>
  vmFacts({ interfaces: [{ mac: '52:54:00:00:00:01', network: 'lan', addresses }] });

const BAD_ADDRESSES: Record<string, Bad> = {
  'a rule whose target subnet is too small': {
    plan: { ip_rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/25', gateway: null }] },
    message: /too small/,
    at: '/plan/ip_rules/0/to',
  },
  'rules that overlap': {
    plan: {
      ip_rules: [
        { from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: null },
        { from: '10.1.0.0/24', to: '10.3.0.0/24', gateway: null },
      ],
    },
    message: /overlap/,
    at: '/plan/ip_rules/1',
  },
  'an address that two VMs are given': {
    plan: { vms: { web: fixed('10.2.0.5/24'), db: fixed('10.2.0.5/16') } },
    message: /VMs (web and db|db and web) would both have the address 10.2.0.5/,
    at: '/plan/vms/db',
  },
  'an address that another VM keeps': {
    plan: { vms: { web: fixed('10.1.0.7/24') } },
    facts: {
      vms: new Map([
        ['replica-db', told('10.1.0.7/24')],
        ['replica-web', told('10.1.0.8/24')],
      ]),
    },
    message: /would both have the address 10.1.0.7/,
    at: '/plan/vms/db',
  },
  'a gateway outside of the subnet': {
    plan: { vms: { web: { addresses: [{ nic: 0, ipv4: ['10.2.0.5/24'], gateway4: '10.3.0.1' }] } } },
    message: /VM web, interface 0: gateway 10.3.0.1 is outside/,
    at: '/plan/vms/web/addresses/0/gateway4',
  },
  'an interface that stands twice': {
    plan: { vms: { web: { addresses: [{ nic: 0, ipv4: 'dhcp' }, { nic: 0 }] } } },
    message: /VM web has settings for interface 0 twice/,
    at: '/plan/vms/web/addresses/1/nic',
  },
  'a host name that two VMs are given': {
    plan: { vms: { web: { host_name: 'one.example' }, app: { host_name: 'ONE.example' } } },
    message: /would both have the host name one.example/,
    at: '/plan/vms/app/host_name',
  },
  'a router of a test with one network': {
    plan: { test: { router: { lan: '10.2.0.1/24' } } },
    message: /one network for all has nothing to route/,
    at: '/plan/test/router',
  },
  'gateways of a test in one subnet': {
    plan: { test: { networks: 'each', router: { lan: '10.2.0.1/24', default: '10.2.0.2/24' } } },
    message: /networks lan and default of the test are in one subnet/,
    at: '/plan/test/router/default',
  },
};

test('rules and settings give each VM its addresses, told before they are given', () => {
  const facts = planFacts({
    vms: new Map([
      ['replica-web', told('10.1.0.5/24', 'fe80::1/64')],
      ['replica-app', told('10.1.0.6/24')],
      ['replica-db', vmFacts()],
    ]),
  });
  const plan = planOf({
    ip_rules: [{ from: '10.1.0.0/24', to: '10.2.0.0/24', gateway: '10.2.0.1', dns: ['10.2.0.2'] }],
    vms: {
      app: { host_name: 'app.b.example', addresses: [{ nic: '52:54:00:00:00:01', ipv4: ['10.2.0.60/24'] }] },
    },
  });
  const { resolved, previews, problems } = surveyPlan(plan, facts);
  const byName = new Map(resolved.vms.map(({ vm_name, addresses }) => [vm_name, addresses]));
  const web = { nic: 0, ipv4: ['10.2.0.5/24'], gateway4: '10.2.0.1', dns: ['10.2.0.2'] };
  assert.deepEqual(byName.get('web'), [web]);
  assert.deepEqual(byName.get('app'), [{ nic: 0, ipv4: ['10.2.0.60/24'] }]);
  assert.deepEqual(byName.get('db'), []);
  assert.deepEqual(previews.find(({ vm_name }) => vm_name === 'web')?.interfaces, [
    {
      nic: 0,
      mac: '52:54:00:00:00:01',
      network: 'lan',
      network_here: 'lan',
      before: ['10.1.0.5/24', 'fe80::1/64'],
      after: web,
      rules: [1],
    },
  ]);
  assert.deepEqual(
    problems.map(({ severity, message }) => [severity, message]),
    [['warning', 'the addresses of VM db are not known, so no rule changes them']],
  );
});

for (const [what, { plan, facts, severity = 'error', message, at }] of Object.entries({
  ...BAD,
  ...BAD_ADDRESSES,
})) {
  test(`${what} is found, with its place and a way out`, () => {
    const { problems } = surveyPlan(planOf(plan), planFacts(facts));
    const found = problems.filter((problem) => problem.severity === severity);
    assert.equal(found.length, 1, JSON.stringify(problems));
    assert.match(found[0]!.message, message);
    assert.equal(found[0]!.at, at);
    assert(found[0]!.hint);
    assert.throws(() => resolvePlan(planOf(plan), planFacts(facts)), { name: 'Failure', message });
  });
}
