/**
 * A plan over a guest with its own agent, on real sites: the plan tests itself, with a report that has the guest's
 * screen; a migration gives the guest its address at east, where it is probed; and it comes home with that of before.
 */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { inflateSync } from 'node:zlib';
import type { Page } from '#/api/common.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { ReportSummary, RunReport } from '#/api/run-reports.ts';
import type { RunView } from '#/api/runs.ts';
import { readPng } from '#/lib/png.ts';
import { run } from './command.ts';
import { createLedger } from './ledger-vm.ts';
import type { Site } from './site.ts';
import { eventually, TwoSites } from './two-sites.ts';

const VM = 'web';
/** The host's part stays: the networks of the lab's sites are 192.168.1.0/24 and 192.168.2.0/24. */
const [AT_WEST, AT_EAST] = ['192.168.1.5', '192.168.2.5'];
const RULE = { from: '192.168.1.0/24', to: '192.168.2.0/24', gateway: '192.168.2.1' };
const PORT = 80;
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  await createLedger(sites.west, {
    name: VM,
    address: `${AT_WEST}/24`,
    gateway: '192.168.1.1',
    httpPort: PORT,
    intervalMs: 1000,
    hasAgent: true,
  });
  await sites.protect(VM, 10_000);
  await sites.pointAfter(VM, 0);
  // One question at a time: the guest's agent has one listener, and the site's own asks it too.
  await eventually(
    'the guest has told its address',
    async () => ((await addressesAt(sites.west)).includes(AT_WEST) ? true : undefined),
    2000,
  );
  await sites.api(sites.east, 'POST', '/groups', { name: 'web', site: 'west', vms: [VM] });
  const health = [{ kind: 'tcp', port: PORT, address: AT_EAST }];
  const move = { name: 'move', groups: ['web'], ip_rules: [RULE], vms: { [VM]: { health } } };
  await sites.api(sites.east, 'POST', '/plans', move);
  // Rules need to know what the guest has: it is told to east every now and then.
  await eventually(
    'east knows the address',
    async () => {
      const view = await sites.api(sites.east, 'GET', '/plans/move/addresses');
      return JSON.stringify(view).includes(AT_EAST) ? true : undefined;
    },
    1000,
  );
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

async function cli(site: Site, ...args: string[]): Promise<string> {
  const manager = `unix:${site.managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, ...args, '--manager', manager], {
    timeoutMs: 240_000,
  });
  return stdout;
}

/** What the guest itself says, through its agent. */
async function addressesAt(site: Site): Promise<string> {
  const { stdout } = await site.exec(
    ['virsh', '-q', '-c', 'qemu:///system', 'domifaddr', VM, '--source', 'agent'],
    { allowFailure: true },
  );
  return stdout;
}

test('a plan tests itself when it is due: the report is signed and shows the screen, and nothing is left', async () => {
  const health = [{ kind: 'tcp', port: PORT }];
  const drill = { name: 'drill', groups: ['web'], ip_rules: [RULE], vms: { [VM]: { health } } };
  await sites.api(sites.east, 'POST', '/plans', { ...drill, test: { every_ms: 60_000 } });
  const summary = await eventually(
    'the report of a test that nobody began',
    async () => (await sites.api<Page<ReportSummary>>(sites.east, 'GET', '/reports')).items[0],
    500,
  );
  assert.deepEqual([summary.kind, summary.plan, summary.outcome], ['test', 'drill', 'passed']);
  const directory = await mkdtemp(join(tmpdir(), 'antipode-report-'));
  try {
    const saved = await cli(sites.east, 'report', 'save', summary.id, '--to', directory, '--json');
    const { files } = JSON.parse(saved) as { files: string[] };
    const path = (end: string): string => files.find((file) => file.endsWith(end))!;
    const report = JSON.parse(await readFile(path('.json'), 'utf8')) as RunReport;
    assert.match(report.started_by ?? '', /schedule/);
    const [web] = report.vms;
    assert(web!.rpo_ms! > 0 && web!.rto_ms! > 0, 'RPO and RTO are measured');
    assert(web!.picture !== null, web!.picture_failure ?? '');
    const picture = readPng(Buffer.from(web!.picture, 'base64'));
    assert(picture.width >= 320 && picture.height >= 200, `${picture.width}x${picture.height}`);
    const colours = new Set(inflateSync(picture.lines));
    assert(colours.size > 1, 'something is written on the screen');
    const authority = join(sites.east.directory, 'manager', 'ca.pem');
    await run([process.execPath, CLI, 'report', 'verify', path('.pdf'), '--authority', authority]);
    const text = (await run(['pdftotext', '-layout', path('.pdf'), '-'])).stdout;
    assert.match(text, /Test of plan drill: passed[^]*web-test/);
    const images = (await run(['pdfimages', '-list', path('.pdf')])).stdout;
    assert.match(images, new RegExp(`image +${picture.width} +${picture.height} +rgb`));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  await eventually('its cleanup', async () => {
    const { items } = await sites.api<Page<RunView>>(sites.east, 'GET', '/runs');
    return items.find(({ id }) => id === summary.id)?.state === 'cleaned' ? true : undefined;
  });
  assert.equal((await sites.east.virsh(['list', '--all', '--name'])).trim(), '');
  await sites.api(sites.east, 'DELETE', '/plans/drill');
});

test('a migration gives the guest its address at the recovery site, and waits for its service there', async () => {
  const done = JSON.parse(await cli(sites.east, 'plan', 'migrate', 'move', '--yes', '--json')) as RunView;
  assert.equal(done.state, 'done');
  const told = await addressesAt(sites.east);
  assert(told.includes(AT_EAST) && !told.includes(AT_WEST), told);
});

test('it comes home with the address that it had there', async () => {
  const view = JSON.parse(await cli(sites.east, 'reprotect', VM, '--json')) as ProtectionView;
  assert.equal(view.state, 'active');
  const replica = await sites.replica(VM, sites.west);
  const seeded = (await sites.points(replica!.id, sites.west))[0]!.sequence;
  await sites.pointAfter(VM, seeded, sites.west);
  const home = JSON.parse(await cli(sites.west, 'failback', VM, '--json')) as RecoveryView;
  assert.equal(home.state, 'done');
  const details = home.steps.find(({ name }) => name === 'recover')!.details;
  assert(
    details.some(({ name, note }) => name === 'put back the addresses of home' && note !== null),
    JSON.stringify(details),
  );
  const told = await addressesAt(sites.west);
  assert(told.includes(AT_WEST) && !told.includes(AT_EAST), told);
});
