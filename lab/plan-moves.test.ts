/**
 * A plan of two real VMs moves to the other site while that site's manager is killed in the middle, is protected back to
 * where it came from, and comes home: nothing is lost, no copy runs twice, and networks and protection are as before.
 */
import assert from 'node:assert/strict';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ReplicaView } from '#/api/replicas.ts';
import type { RunReprotection } from '#/api/reprotections.ts';
import type { RunView } from '#/api/runs.ts';
import { run } from './command.ts';
import { consoleLog, createLedger, serialLog, waitForText } from './ledger-vm.ts';
import { eventually, TwoSites } from './two-sites.ts';

const VMS = ['first', 'second'];
/** A network of west alone, where the first VM is at home. */
const HOME = 'home';
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  for (const name of VMS) await createLedger(sites.west, { name, start: false });
  await connectTo(HOME, 'first');
  for (const name of VMS) {
    await sites.west.virsh(['start', name], { timeoutMs: 60_000 });
    await sites.protect(name, 5000);
  }
  for (const name of VMS) {
    await waitForText(serialLog(sites.west, name), /LEDGER n=5 /, { timeoutMs: 120_000 });
    await sites.pointAfter(name, 0);
  }
  await cli('east', 'mapping', 'add', 'network', HOME, 'default', '--of', 'west');
  await sites.api(sites.east, 'POST', '/groups', { name: 'ledgers', site: 'west', vms: VMS });
  const health = [{ kind: 'serial', text: 'LEDGER found' }];
  const vms = { first: { priority: 1, health }, second: { priority: 2, depends_on: ['first'], health } };
  await sites.api(sites.east, 'POST', '/plans', { name: 'all', groups: ['ledgers'], vms });
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

/** Puts the VM on a network that east has not. */
async function connectTo(network: string, vm: string): Promise<void> {
  const file = join(sites.west.directory, 'home.xml');
  await writeFile(file, `<network><name>${network}</name><bridge name='virbrhome'/></network>`);
  await sites.west.virsh(['net-define', file]);
  await sites.west.virsh(['net-start', network]);
  const xml = await sites.west.virsh(['dumpxml', vm, '--inactive']);
  await writeFile(file, xml.replace("network='default'", `network='${network}'`));
  await sites.west.virsh(['define', file]);
  await rm(file);
}

async function cli(site: 'west' | 'east', ...args: string[]): Promise<string> {
  const manager = `unix:${sites[site].managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, ...args, '--manager', manager], {
    timeoutMs: 240_000,
  });
  return stdout;
}

async function networkAt(site: 'west' | 'east', vm: string): Promise<string> {
  const xml = await sites[site].virsh(['dumpxml', vm, '--inactive']);
  return /<source network='([^']+)'/.exec(xml)?.[1] ?? '';
}

/** Until the step of the plan's newest run is being carried out. */
async function stepBegins(site: 'west' | 'east', key: string): Promise<void> {
  await eventually(`step ${key}`, async () => {
    try {
      const view = await sites.api<RunView>(sites[site], 'GET', '/runs/all');
      return view.steps!.some((step) => step.key === key && step.attempts > 0) ? true : undefined;
    } catch {
      // There is no run yet.
      return undefined;
    }
  });
}

async function lastRecord(log: string): Promise<number> {
  const [, last] = await waitForText(log, /LEDGER shutdown n=(\d+)/);
  return Number(last);
}

/** Both run at that site with all that they had written where they were, which is what `written` tells. */
async function checkNothingLost(site: 'west' | 'east', written: readonly number[]): Promise<void> {
  for (const [index, name] of VMS.entries()) {
    const log = (await consoleLog(sites[site], name))!;
    const found = await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/, { timeoutMs: 120_000 });
    assert.deepEqual([Number(found[1]), Number(found[2])], [written[index], written[index]], name);
    await waitForText(log, new RegExp(`LEDGER n=${written[index]! + 3} `));
  }
}

async function checkStandsStill(site: 'west' | 'east'): Promise<void> {
  for (const name of VMS) {
    assert.match(await sites[site].virsh(['domstate', name]), /shut off/, `${name} at ${site}`);
    const start = await sites[site].exec(['virsh', '-q', '-c', 'qemu:///system', 'start', name], {
      allowFailure: true,
      timeoutMs: 60_000,
    });
    assert.notEqual(start.code, 0, `${name} is not to be started at ${site}`);
    assert.match(start.stderr, /since epoch \d+/);
  }
}

test('a migration whose manager is killed in the middle goes on when it is back, and loses nothing', async (t) => {
  const running = cli('east', 'plan', 'migrate', 'all', '--yes', '--json');
  await stepBegins('east', 'vm1-recover');
  await sites.lab.kill('east', 'manager');
  await sites.lab.start('east', 'manager');
  const done = JSON.parse(await running) as RunView;
  assert.equal(done.state, 'done');
  t.diagnostic(`all up after ${done.up_ms! - done.created_ms} ms, with a manager killed on the way`);
  const [first, second] = VMS.map((name) => done.vms.find((vm) => vm.vm_name === name)!);
  assert(first!.healthy_ms! <= second!.up_ms!, 'the second comes up after the first is healthy');
  const written = await Promise.all(VMS.map((name) => lastRecord(serialLog(sites.west, name))));
  await checkNothingLost('east', written);
  await checkStandsStill('west');
  assert.equal(await networkAt('east', 'first'), 'default');
});

test('the plan is reprotected as a whole: old copies become points, and east sends what differs', async (t) => {
  const view = JSON.parse(await cli('east', 'plan', 'reprotect', 'all', '--json')) as RunReprotection;
  assert.deepEqual(
    view.vms.map(({ state, site_name: site, rpo_ms: rpoMs }) => [state, site, rpoMs]),
    VMS.map(() => ['active', 'west', 5000]),
  );
  for (const name of VMS) t.diagnostic((await cli('west', 'reprotect', 'show', name)).trim());
});

test('the plan comes home with all that it wrote, onto its own networks, protected as it was', async (t) => {
  await eventually('points of east', async () => {
    const { items } = await sites.api<{ items: ReplicaView[] }>(sites.west, 'GET', '/replicas');
    return items.length === VMS.length && items.every((one) => one.point_count > 1) ? true : undefined;
  });
  const away = await Promise.all(VMS.map(async (name) => (await consoleLog(sites.east, name))!));
  const done = JSON.parse(await cli('west', 'plan', 'failback', 'all', '--yes', '--json')) as RunView;
  assert.deepEqual([done.kind, done.state], ['failback', 'done']);
  t.diagnostic(`home after ${done.up_ms! - done.created_ms} ms`);
  const written = await Promise.all(away.map((log) => lastRecord(log)));
  await checkNothingLost('west', written);
  await checkStandsStill('east');
  assert.deepEqual(await Promise.all(VMS.map((name) => networkAt('west', name))), [HOME, 'default']);
  const vms = await eventually('the protection of before', async () => {
    const view = await sites.api<RunReprotection>(sites.west, 'GET', '/runs/all/reprotection');
    return view.vms.every(({ state }) => state === 'active') ? view.vms : undefined;
  });
  assert.deepEqual(
    vms.map(({ site_name: site, rpo_ms: rpoMs }) => [site, rpoMs]),
    VMS.map(() => ['east', 5000]),
  );
});
