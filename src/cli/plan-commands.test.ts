/** mapping, group and plan on the command line, against the managers of two sites. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { GroupView, PlanView } from '#/api/plans.ts';
import { ledgerVm, twoSites } from '#/manager/site-fixture.ts';

const MAIN = new URL('main.ts', import.meta.url).pathname;
const WEB_UUID = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002';

type Run = { code: number; out: string; err: string };

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
  const [peer] = await west.manager.peers.list();
  await west.manager.protections.reconcile(peer!);
});

after(() => sites[Symbol.asyncDispose]());

/** At the recovery site. */
async function antipode(args: readonly string[], input = ''): Promise<Run> {
  for (const program of [sites.westAgent, sites.eastAgent]) await program.send();
  const env = {
    PATH: process.env['PATH'],
    TZ: 'UTC',
    ANTIPODE_MANAGER: `unix:${sites.east.config.socketPath}`,
  };
  return await new Promise((resolve) => {
    const child = execFile(process.execPath, [MAIN, ...args], { env, timeout: 60_000 }, (error, out, err) => {
      resolve({ code: error === null ? 0 : Number(error.code ?? -1), out, err });
    });
    child.stdin?.end(input);
  });
}

async function good(args: readonly string[], input = ''): Promise<string> {
  const { code, out, err } = await antipode(args, input);
  assert.equal(code, 0, `${args.join(' ')}: ${err}`);
  return out;
}

test('mappings are made at both sites, listed and taken back', async () => {
  const made = await good(['mapping', 'add', 'network', 'lan', 'lan-b', '--of', 'west', '--both']);
  assert.match(made, /network lan of west becomes lan-b here\nand lan-b becomes lan there/);
  assert.match(await good(['mapping', 'list']), /KIND +OF SITE +THERE +HERE\nnetwork +west +lan +lan-b/);
  const wrong = await antipode(['mapping', 'add', 'network', 'lan', 'nowhere', '--of', 'west']);
  assert.equal(wrong.code, 4);
  assert.match(wrong.err, /site east has no network nowhere\nIt has: default, lan-b/);
  assert.equal((await antipode(['mapping', 'add', 'disk', 'a', 'b', '--of', 'west'])).code, 2);
  assert.match(await good(['mapping', 'remove', 'network', 'lan', '--of', 'west']), /mapped to nothing/);
  assert.match(await good(['mapping', 'list']), /nothing is mapped yet/);
});

test('groups are made, changed and shown', async () => {
  assert.match(await good(['group', 'list']), /no group yet/);
  const shown = await good([
    'group',
    'create',
    'shop',
    'ledger',
    '--of',
    'west',
    '--description',
    'the shop',
  ]);
  assert.match(shown, /group shop of site west\nthe shop\n {2}ledger\n/);
  await good(['group', 'add', 'shop', 'web']);
  const view = JSON.parse(await good(['group', 'show', 'shop', '--json'])) as GroupView;
  assert.deepEqual(view.document.vms, ['ledger', 'web']);
  const wrong = await antipode(['group', 'create', 'more', 'web', '--of', 'west']);
  assert.equal(wrong.code, 4);
  assert.match(wrong.err, /VM web is in group shop already\n.*antipode group remove shop web/);
  assert.match(await good(['group', 'list']), /shop +west +2/);
});

test('a plan is made, shown as a run would take it, and told what blocks its runs', async () => {
  const create = await antipode(['plan', 'create', 'all', '--group', 'shop']);
  assert.equal(create.code, 0);
  assert.match(
    create.err,
    /blocks runs: network lan of VM ledger is mapped to none of this site\n {2}Map it/,
  );
  const check = await antipode(['plan', 'check', 'all']);
  assert.equal(check.code, 4);
  assert.match(check.err, /plan all cannot be run: 1 problem/);
  await good(['mapping', 'add', 'network', 'lan', 'lan-b', '--of', 'west']);
  assert.match(await good(['plan', 'check', 'all']), /can be run/);
  assert.match(await good(['plan', 'show', 'all']), /3 +ledger +shop +starts +lan -> lan-b/);
  assert.match(await good(['plan', 'list']), /all +shop +1 /);
});

test('a file is shown before it is applied, and what is exported changes nothing', async () => {
  const file = join(sites.east.directory, 'all.yaml');
  const exported = await good(['plan', 'export', 'all']);
  assert.match(await good(['plan', 'import', '-'], exported), /everything is as the file says already/);
  await writeFile(file, exported.replace('plan:\n', 'plan:\n  vms:\n    ledger: { priority: 1 }\n'));
  const looked = await good(['plan', 'import', file]);
  assert.match(
    looked,
    /plan all: would change\n {2}vms: \{"ledger":\{"priority":1\}\} is added\nnothing was changed/,
  );
  const revision = async (): Promise<number> =>
    (JSON.parse(await good(['plan', 'show', 'all', '--json'])) as { plan: PlanView }).plan.revision;
  assert.equal(await revision(), 1);
  assert.match(await good(['plan', 'import', file, '--apply']), /plan all: changed\n/);
  assert.equal(await revision(), 2);
  assert.match(await good(['plan', 'import', file, '--apply']), /already/);
  assert.equal(await revision(), 2);
});

test('what is wrong with a file is told with its line, and nothing of it is applied', async () => {
  const lines = ['plan:', '  name: new', '  groups: [shop]', '  vms:'];
  const misshapen = [...lines, '    ledger:', '      priority: 9', '      bogus: 1'].join('\n');
  const shape = await antipode(['plan', 'import', '-', '--apply'], misshapen);
  assert.equal(shape.code, 2);
  assert.match(shape.err, /standard input:6: plan\/vms\/ledger\/priority must be <= 5/);
  assert.match(shape.err, /standard input:7: plan\/vms\/ledger\/bogus is not known here/);

  const circle = [...lines, '    ledger: { depends_on: [web] }', '    web: { depends_on: [ledger] }'].join(
    '\n',
  );
  const meaning = await antipode(['plan', 'import', '-', '--apply'], circle);
  assert.equal(meaning.code, 4);
  assert.match(
    meaning.err,
    /standard input:5: error: VMs depend on each other in a circle: ledger -> web -> ledger/,
  );
  assert.match(meaning.err, /has 1 error\nNothing was changed/);
  assert.equal((await antipode(['plan', 'show', 'new'])).code, 4);

  const missing = await antipode(['plan', 'import', '/nowhere/all.yaml']);
  assert.equal(missing.code, 2);
  assert.match(missing.err, /read \/nowhere\/all\.yaml/);
});

test('the addresses of a plan are shown before they are given', async () => {
  const shown = await antipode(['plan', 'addresses', 'all']);
  assert.match(shown.out, /no interface of its VMs is known/);
  const file = await good(['plan', 'export', 'all']);
  const own =
    '    ledger: { priority: 1, host_name: b.example, addresses: [{ nic: 0, ipv4: [10.2.0.5/24], dns: [] }] }';
  const changed = file.replace(/ {4}ledger:\n {6}priority: 1/, own);
  await good(['plan', 'import', '-', '--apply'], changed);
  const then = await good(['plan', 'addresses', 'all']);
  assert.match(then, /ledger +b\.example +0 +not known +10\.2\.0\.5\/24, DNS none/);
  const byDisk = changed.replace('host_name: b.example', 'host_name: b.example, customize_by: disk');
  await good(['plan', 'import', '-', '--apply'], byDisk);
  assert.match(
    (await antipode(['plan', 'addresses', 'all'])).err,
    /in their disks before they start: ledger\./,
  );
});

test('addresses go out and come in as the table that other products use', async () => {
  const before = await good(['plan', 'export', 'all']);
  const csv = await good(['plan', 'addresses', 'export', 'all']);
  assert.match(csv, /^VM ID,VM Name,vCenter Server,Adapter ID,/);
  assert.match(csv, /,ledger,east,1,,,,,10\.2\.0\.5,255\.255\.255\.0,,,,,none,\r\n/);
  assert.match(
    await good(['plan', 'addresses', 'import', 'all', '-'], csv),
    /everything is as the file says already/,
  );
  const other = csv.replace('10.2.0.5,255.255.255.0,', '10.2.0.6,255.255.255.0,10.2.0.1');
  const looked = await antipode(
    ['plan', 'addresses', 'import', 'all', '-'],
    `${other}x,web,west,1,,,,,dhcp\r\n`,
  );
  assert.match(looked.out, /plan all: would change\n/);
  assert.match(looked.err, /rows of site west: ignored, 1 times/);
  assert.equal(await good(['plan', 'export', 'all']), before);
  const wrong = await antipode(
    ['plan', 'addresses', 'import', 'all', '-', '--apply'],
    other.replace(/2\.0\.1/, '9.0.1'),
  );
  assert.equal(wrong.code, 4);
  assert.match(wrong.err, /gateway 10\.9\.0\.1 is outside of the subnet/);
  assert.match(
    await good(['plan', 'addresses', 'import', 'all', '-', '--apply'], other),
    /plan all: changed/,
  );
  assert.match(await good(['plan', 'addresses', 'all']), /10\.2\.0\.6\/24, gateway 10\.2\.0\.1, DNS none/);
});

test('a plan is deleted, and its groups after it', async () => {
  assert.equal((await antipode(['group', 'delete', 'shop'])).code, 4);
  await good(['plan', 'delete', 'all']);
  await good(['group', 'delete', 'shop']);
  assert.match(await good(['plan', 'list']), /no plan yet/);
});
