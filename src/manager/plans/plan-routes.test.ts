/** Mappings, groups and plans through the API of a recovery site that keeps ledger and web of a protected one. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Page } from '#/api/common.ts';
import type {
  ImportReply,
  MappingView,
  PlanFile,
  PlanAddresses,
  PlanDetails,
  SavedMapping,
  SavedPlan,
} from '#/api/plan-files.ts';
import type { GroupView, PlanDocument, PlanView } from '#/api/plans.ts';
import { ledgerVm, twoSites } from '#/manager/site-fixture.ts';

const WEB_UUID = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002';

let sites: Awaited<ReturnType<typeof twoSites>>;

before(async () => {
  sites = await twoSites();
  const { eastAgent, west, westAgent } = sites;
  eastAgent.report.host.networks = ['default', 'lan-b'];
  await eastAgent.send();
  westAgent.report.host.networks = ['default', 'lan'];
  westAgent.report.vms = [ledgerVm({ networks: ['lan'] }), ledgerVm({ name: 'web', uuid: WEB_UUID })];
  await westAgent.send();
  for (const vm of ['ledger', 'web']) {
    await west.api('POST', '/protections', { vm, site: 'east', rpo_ms: 60_000 });
  }
  await tellFacts();
});

/** As it happens every few seconds. */
async function tellFacts(): Promise<void> {
  const { peers, protections } = sites.west.manager;
  const [peer] = await peers.list();
  await protections.reconcile(peer!);
}

after(() => sites[Symbol.asyncDispose]());

const api = <Reply = Record<string, unknown>>(
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  body?: unknown,
): Promise<Reply> => sites.east.api<Reply>(method, path, body);

const mappings = async (of = sites.east): Promise<string[]> => {
  const { items } = await of.api<Page<MappingView>>('GET', '/mappings');
  return items.map(({ kind, there, here, site_name: site }) => `${kind} ${there} of ${site} -> ${here}`);
};

const eventKinds = async (): Promise<string[]> => {
  const { items } = await api<{ items: { kind: string }[] }>('GET', '/events?limit=1000');
  return items.map(({ kind }) => kind);
};

test('a mapping is checked at both sites, and made at both when that is asked for', async () => {
  const lan = { site: 'west', kind: 'network', there: 'lan', here: 'lan-b' };
  const refused = (body: object) => api('POST', '/mappings', { ...lan, ...body });
  await assert.rejects(refused({ here: 'nowhere' }), { code: 'not_found', hint: /It has: default, lan-b/ });
  await assert.rejects(refused({ there: 'nothing' }), {
    code: 'not_found',
    message: /site west has no network nothing/,
  });
  await assert.rejects(refused({ site: 'north' }), { code: 'not_found', message: /not paired/ });
  await assert.rejects(refused({ kind: 'host', there: 'west-host', here: 'x' }), {
    hint: /It has: east-host/,
  });
  await assert.rejects(refused({ kind: 'storage', here: 'srv' }), {
    code: 'usage_invalid',
    message: /"srv" is no/,
  });
  await assert.rejects(refused({ kind: 'storage', there: '/a/../b', here: '/b' }), {
    message: /"\/a\/..\/b" is no/,
  });
  assert.deepEqual(await mappings(), [], 'nothing was changed');

  const { notices } = await api<SavedMapping>('POST', '/mappings', { ...lan, both: true });
  assert.deepEqual(notices, []);
  await api('POST', '/mappings', { ...lan, both: true });
  assert.deepEqual(await mappings(), ['network lan of west -> lan-b']);
  assert.deepEqual(await mappings(sites.west), ['network lan-b of east -> lan']);
  const added = (await eventKinds()).filter((kind) => kind.startsWith('mapping.'));
  assert.deepEqual(added, ['mapping.added'], 'asking again is no change');
});

test('a reverse mapping that would take the place of another changes neither site', async () => {
  const other = { site: 'west', kind: 'network', there: 'default', here: 'lan-b', both: true };
  await assert.rejects(api('POST', '/mappings', other), {
    code: 'conflict',
    message: /site west maps network lan-b of east to lan already/,
    hint: /Leave out --both/,
  });
  assert.deepEqual(await mappings(), ['network lan of west -> lan-b']);
  assert.deepEqual(await mappings(sites.west), ['network lan-b of east -> lan']);
});

test('a mapping is made, with a notice, while the other site does not answer; its reverse is not', async () => {
  await sites.west.stop();
  const there = { site: 'west', kind: 'storage', there: '/srv/vms/', here: '/srv/east' };
  await assert.rejects(api('POST', '/mappings', { ...there, both: true }), { code: 'unreachable' });
  const { notices } = await api<SavedMapping>('POST', '/mappings', there);
  assert.match(notices.join(), /site west does not answer. .*\/srv\/vms was not checked/);
  assert.deepEqual(await mappings(), [
    'network lan of west -> lan-b',
    'storage /srv/vms of west -> /srv/east',
  ]);
  await sites.west.restart();
  await sites.westAgent.send();
  await tellFacts();
  const query = new URLSearchParams({ site: 'west', kind: 'storage', there: '/srv/vms' });
  await api('DELETE', `/mappings?${query.toString()}`);
  await assert.rejects(api('DELETE', `/mappings?${query.toString()}`), {
    code: 'not_found',
    message: /is not mapped/,
  });
  assert.deepEqual(await mappings(), ['network lan of west -> lan-b']);
});

test('a group takes VMs that have a replica here, and each VM is in one group', async () => {
  const shop = { name: 'shop', site: 'west', vms: ['ledger'] };
  await assert.rejects(api('POST', '/groups', { ...shop, vms: ['ghost'] }), {
    code: 'not_found',
    message: /group shop has VM ghost, of which this site keeps no replica from west/,
  });
  await assert.rejects(api('POST', '/groups', { ...shop, site: 'north' }), { message: /not paired with/ });
  await assert.rejects(api('POST', '/groups', { ...shop, name: 'a b' }), { code: 'usage_invalid' });
  assert.equal((await api<Page<GroupView>>('GET', '/groups')).total, 0);

  const { document, plans } = await api<GroupView>('POST', '/groups', shop);
  assert.deepEqual([document, plans], [shop, []]);
  await assert.rejects(api('POST', '/groups', shop), { code: 'already_exists' });
  const ledgerUuid = ledgerVm().uuid;
  await assert.rejects(api('POST', '/groups', { ...shop, name: 'more', vms: ['web', ledgerUuid] }), {
    code: 'conflict',
    message: /VM ledger is in group shop already/,
    hint: /antipode group remove shop ledger/,
  });
  await assert.rejects(api('POST', '/groups/shop/vms', { add: [ledgerUuid] }), {
    message: /twice in group shop/,
  });
  await api('POST', '/groups/shop/vms', { add: ['web'] });
  await assert.rejects(api('POST', '/groups/shop/vms', { remove: ['ghost'] }), { code: 'not_found' });
  await assert.rejects(api('POST', '/groups/shop/vms', { remove: ['ledger', WEB_UUID] }), {
    code: 'conflict',
    message: /left without a VM/,
  });
  const { document: now } = await api<GroupView>('POST', '/groups/shop/vms', { remove: [WEB_UUID] });
  assert.deepEqual(now.vms, ['ledger']);
});

test('a plan is kept with what it says, changed only from its newest revision, and told what blocks its runs', async () => {
  const document: PlanDocument = {
    name: 'all',
    groups: ['shop'],
    vms: { ledger: { networks: { lan: 'dmz' } } },
  };
  await assert.rejects(api('POST', '/plans', { ...document, groups: ['none'] }), { code: 'not_found' });
  assert.equal((await api<Page<PlanView>>('GET', '/plans')).total, 0);
  const { plan, problems } = await api<SavedPlan>('POST', '/plans', document);
  assert.deepEqual([plan.revision, plan.document], [1, document]);
  assert.deepEqual(
    problems.map(({ severity, at }) => [severity, at]),
    [['blocks_runs', '/plan/vms/ledger/networks/lan']],
  );
  await assert.rejects(api('POST', '/plans', document), { code: 'already_exists' });

  const bare = { name: 'all', groups: ['shop'] };
  const { plan: next } = await api<SavedPlan>('POST', '/plans/all', { revision: 1, document: bare });
  assert.equal(next.revision, 2);
  await assert.rejects(api('POST', '/plans/all', { revision: 1, document }), {
    code: 'conflict',
    message: /has revision 2 by now; the change is of revision 1/,
  });
  assert.deepEqual((await api<PlanView>('GET', `/plans/${plan.id}`)).document, bare);
  const { problems: none, vms } = await api<PlanDetails>('GET', '/plans/all/details');
  assert.deepEqual(none, []);
  assert.deepEqual(
    vms.map(({ vm_name, priority, networks }) => [vm_name, priority, networks]),
    [['ledger', 3, { lan: 'lan-b' }]],
  );
  await assert.rejects(api('GET', '/plans/none'), { code: 'not_found', hint: /antipode plan list/ });
});

test('a group that a plan has is not deleted, nor changed in a way that breaks the plan', async () => {
  assert.deepEqual((await api<GroupView>('GET', '/groups/shop')).plans, ['all']);
  await assert.rejects(api('DELETE', '/groups/shop'), {
    code: 'conflict',
    message: /is in recovery plan all/,
  });
  const renamed = { name: 'store', site: 'west', vms: ['ledger'] };
  await assert.rejects(api('POST', '/groups/shop', renamed), {
    message: /recovery plan all would be broken/,
  });
  const document = { name: 'all', groups: ['shop'], vms: { ledger: { priority: 1 } } };
  await api('POST', '/plans/all', { revision: 2, document });
  await assert.rejects(api('POST', '/groups/shop', { ...renamed, name: 'shop', vms: ['web'] }), {
    code: 'conflict',
    message: /recovery plan all would be broken: the plan has settings for VM ledger/,
  });
  assert.deepEqual((await api<GroupView>('GET', '/groups/shop')).document.vms, ['ledger']);
});

test('a plan is neither changed nor deleted while a run of it is under way', async () => {
  const { db } = sites.east.manager.context;
  const plan = await api<PlanView>('GET', '/plans/all');
  const run = {
    id: 'run-1',
    plan_id: plan.id,
    plan_name: 'all',
    kind: 'test',
    state: 'running',
    request: '{}',
  };
  const lease = { failure: null, lease_holder: null, lease_number: 0, lease_until_ms: 0 };
  const times = { created_ms: 1, updated_ms: 1, ended_ms: null };
  await db
    .insertInto('runs')
    .values({ ...run, ...lease, ...times })
    .execute();
  const under = { code: 'conflict', message: /run run-1 of plan all is under way/ };
  const { document } = plan;
  await assert.rejects(api('POST', '/plans/all', { revision: plan.revision, document }), under);
  await assert.rejects(api('DELETE', '/plans/all'), under);
  const file = { plan: { ...document, description: 'changed' } };
  await assert.rejects(api('POST', '/plan-files', { file, apply: true }), under);
  assert.deepEqual(await api<PlanView>('GET', '/plans/all'), plan);
  await db.updateTable('runs').set({ ended_ms: 2 }).execute();
});

test('a file is taken in as a whole, shown before, and comes out as it went in', async () => {
  const file: PlanFile = {
    mappings: [
      { site: 'west', kind: 'network', there: 'lan', here: 'default' },
      { site: 'west', kind: 'host', there: 'west-host', here: 'east-host' },
    ],
    groups: [
      { name: 'shop', site: 'west', vms: ['ledger'] },
      { name: 'front', site: 'west', vms: ['web'] },
    ],
    plan: {
      name: 'all',
      groups: ['shop', 'front'],
      vms: { ledger: { priority: 1 }, web: { priority: 2, depends_on: ['ledger'] } },
    },
  };
  const was = await api<PlanFile>('GET', '/plans/all/file');
  const looked = await api<ImportReply>('POST', '/plan-files', { file, apply: false });
  assert.deepEqual([looked.is_applied, looked.problems], [false, []]);
  assert.deepEqual(
    looked.changes.map(({ kind, name, change, details }) => [kind, name, change, details]),
    [
      ['mapping', 'network lan of west', 'changed', ['lan-b -> default']],
      ['mapping', 'host west-host of west', 'added', ['nothing -> east-host']],
      ['group', 'shop', 'none', []],
      ['group', 'front', 'added', []],
      [
        'plan',
        'all',
        'changed',
        ['groups/front: "front" is added', 'vms/web: {"priority":2,"depends_on":["ledger"]} is added'],
      ],
    ],
  );
  assert.deepEqual(await api<PlanFile>('GET', '/plans/all/file'), was, 'looking changes nothing');

  const done = await api<ImportReply>('POST', '/plan-files', { file, apply: true });
  assert.deepEqual(done, { ...looked, is_applied: true });
  const exported = await api<PlanFile>('GET', '/plans/all/file');
  assert.deepEqual(exported.plan, file.plan);
  assert.deepEqual(new Set(exported.groups), new Set(file.groups));
  assert.deepEqual(new Set(exported.mappings), new Set(file.mappings));
  const again = await api<ImportReply>('POST', '/plan-files', { file: exported, apply: true });
  assert(again.changes.every(({ change }) => change === 'none'));
});

test('a file with an error anywhere changes nothing, and every error is told with its place', async () => {
  const was = await api<PlanFile>('GET', '/plans/all/file');
  const file: PlanFile = {
    mappings: [
      { site: 'west', kind: 'network', there: 'default', here: 'lan-b' },
      { site: 'west', kind: 'network', there: 'nothing', here: 'lan-b' },
      { site: 'north', kind: 'network', there: 'lan', here: 'lan-b' },
      { site: 'west', kind: 'network', there: 'default', here: 'default' },
    ],
    groups: [
      { name: 'front', site: 'west', vms: ['web', 'ghost'] },
      { name: 'more', site: 'west', vms: ['ledger'] },
      { name: 'more', site: 'west', vms: ['ledger'] },
    ],
    plan: { name: 'new', groups: ['front', 'nothing'], vms: { web: { depends_on: ['web'] } } },
  };
  const { problems, is_applied: isApplied } = await api<ImportReply>('POST', '/plan-files', {
    file,
    apply: false,
  });
  assert(!isApplied);
  const places = problems.filter(({ severity }) => severity === 'error').map(({ at }) => at);
  for (const at of [
    '/mappings/1/there',
    '/mappings/2',
    '/mappings/3',
    '/groups/0/vms/1',
    '/groups/1/vms/0',
    '/groups/2/name',
    '/groups',
    '/plan/groups/1',
    '/plan/vms/web/depends_on',
  ]) {
    assert(places.includes(at), `${at} in ${places.join(' ')}`);
  }
  await assert.rejects(api('POST', '/plan-files', { file, apply: true }), { message: /\(and \d+ more\)$/ });
  assert.deepEqual(await api<PlanFile>('GET', '/plans/all/file'), was);
  assert.equal((await api<Page<PlanView>>('GET', '/plans')).total, 1);
});

test('the addresses of a plan are shown before they are given', async () => {
  const interfaces = [{ mac: '52:54:00:00:00:01', network: 'lan', addresses: ['10.1.0.5/24'] }];
  sites.westAgent.report.vms = [ledgerVm({ networks: ['lan'], interfaces })];
  await sites.westAgent.send();
  await tellFacts();
  const { document, revision } = await api<PlanView>('GET', '/plans/all');
  const rules = [{ from: '10.1.0.0/24', to: '10.2.0.0/24' }];
  await api('POST', '/plans/all', { revision, document: { ...document, ip_rules: rules } });
  const { problems, vms } = await api<PlanAddresses>('GET', '/plans/all/addresses');
  const ledger = vms.find(({ vm_name }) => vm_name === 'ledger');
  assert.deepEqual(ledger?.interfaces[0]?.after, { nic: 0, ipv4: ['10.2.0.5/24'] });
  assert.deepEqual([ledger?.source_site_name, ledger?.interfaces[0]?.network_here], ['west', 'default']);
  assert.deepEqual(
    problems.map(({ at }) => at),
    ['/plan/ip_rules/0', '/plan/vms/web'],
  );
  await api('POST', '/plans/all', { revision: revision + 1, document });
});

test('what a document may hold is bounded', async () => {
  const many = Array.from({ length: 1001 }, (_, index) => `vm${index}`);
  const tooMany = { code: 'usage_invalid' };
  await assert.rejects(api('POST', '/groups', { name: 'many', site: 'west', vms: many }), tooMany);
  await assert.rejects(api('POST', '/plans', { name: 'a', groups: [] }), tooMany);
  await assert.rejects(api('POST', '/plans', { name: 'a', groups: ['shop'], bogus: 1 }), {
    message: /bogus/,
  });
  const long = { name: 'a', groups: ['shop'], description: 'x'.repeat(5 * 1024 * 1024) };
  await assert.rejects(api('POST', '/plans', long), { code: 'limit_exceeded' });
});

test('a plan and its groups are deleted, and who did what is recorded', async () => {
  await api('DELETE', '/plans/all');
  await api('DELETE', '/groups/shop');
  await api('DELETE', '/groups/front');
  const { items } = await api<{ items: { action: string; subject: string; outcome: string }[] }>(
    'GET',
    '/audit',
  );
  const created = items.find(({ action, outcome }) => action === 'POST /api/v1/groups' && outcome === 'ok');
  assert.equal(created?.subject, 'name=shop site=west');
  const kinds = new Set(await eventKinds());
  for (const kind of ['plan.created', 'plan.changed', 'plan.deleted', 'group.created', 'group.changed']) {
    assert(kinds.has(kind), kind);
  }
});
