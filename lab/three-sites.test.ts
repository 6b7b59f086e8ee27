/**
 * Three sites: a VM of west is protected to east and to north, and a VM of north to east. West dies, one plan at east
 * brings up both; north knows who runs what, north's replica goes on from where it was, and what returns is fenced.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { FenceView } from '#/api/fences.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { RunCheck, RunView } from '#/api/runs.ts';
import { run } from './command.ts';
import {
  consoleLog,
  createLedger,
  DISK_BYTES,
  ledgerDiskPaths,
  serialLog,
  waitForText,
} from './ledger-vm.ts';
import type { Site } from './site.ts';
import { eventually, TwoSites } from './two-sites.ts';

/** Of west, with a third disk that no guest writes and no compression shrinks: it must not travel again. */
const VM = 'ledger';
const STILL_BYTES = 24 * 1024 * 1024;
/** Of north. */
const OTHER = 'other';
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
let north: Site;
before(async () => {
  sites = await TwoSites.up(() => undefined, ['north']);
  north = sites.lab.site('north');
  await createLedger(sites.west, {
    name: VM,
    diskBytes: [DISK_BYTES, DISK_BYTES, STILL_BYTES],
    start: false,
  });
  const still = ledgerDiskPaths(sites.west, VM, 3)[2]!;
  await writeFile(`${still}.raw`, randomBytes(STILL_BYTES));
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', `${still}.raw`, still]);
  await rm(`${still}.raw`);
  await sites.west.virsh(['start', VM], { timeoutMs: 60_000 });
  await createLedger(north, { name: OTHER });
  await waitForText(serialLog(sites.west, VM), /LEDGER n=5 /, { timeoutMs: 120_000 });
  await waitForText(serialLog(north, OTHER), /LEDGER n=5 /, { timeoutMs: 120_000 });
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

async function stateAt(site: Site, vm: string): Promise<string> {
  return (await site.virsh(['domstate', vm])).trim();
}

async function fenceAt(site: Site): Promise<FenceView | undefined> {
  const { items } = await sites.api<{ items: FenceView[] }>(site, 'GET', '/fences');
  return items.find((view) => view.vm_name === VM);
}

test('one VM is replicated to two sites, to each with its own RPO', async () => {
  const east = await sites.protect(VM, 4000);
  const far = await sites.protect(VM, 8000, { to: 'north' });
  await sites.protect(OTHER, 5000, { from: north });
  assert.deepEqual([east.state, far.state], ['active', 'active']);
  const first = await sites.pointAfter(VM, 0);
  const there = await sites.pointAfter(VM, 0, north);
  // Both go on: neither takes the other's tracking away.
  const [next, nextThere] = await Promise.all([
    sites.pointAfter(VM, first.sequence),
    sites.pointAfter(VM, there.sequence, north),
  ]);
  for (const point of [next, nextThere]) {
    assert(point.delta_bytes < STILL_BYTES / 4, `${point.delta_bytes} bytes: the tracking was lost`);
  }
  await sites.pointAfter(OTHER, 0);
  const status = JSON.parse(await cli(sites.west, 'status', '--json')) as { vms: { rpo_ms: number }[] };
  assert.deepEqual(
    status.vms.map(({ rpo_ms: rpoMs }) => rpoMs).toSorted((a, b) => a - b),
    [4000, 8000],
  );
});

test('west dies: one plan over groups of two sites brings up both VMs at east', async (t) => {
  await sites.api(sites.east, 'POST', '/groups', { name: 'of-west', site: 'west', vms: [VM] });
  await sites.api(sites.east, 'POST', '/groups', { name: 'of-north', site: 'north', vms: [OTHER] });
  const vms = { [VM]: { priority: 1 }, [OTHER]: { priority: 2 } };
  await sites.api(sites.east, 'POST', '/plans', { name: 'both', groups: ['of-west', 'of-north'], vms });
  await sites.lab.cut('west', 'east');
  await sites.lab.cut('west', 'north');
  await sites.lab.killSite('west');
  const request = { plan: 'both', kind: 'disaster' };
  const check = await sites.api<RunCheck>(sites.east, 'POST', '/runs/check', request);
  assert.deepEqual(
    check.vms.map(({ vm_name: name, source }) => [name, source]),
    [
      [VM, 'silent'],
      [OTHER, 'answers'],
    ],
  );
  const done = JSON.parse(await cli(sites.east, 'plan', 'run', 'both', '--yes', '--json')) as RunView;
  assert.equal(done.state, 'done');
  t.diagnostic(done.warnings.join(' | '));
  for (const name of [VM, OTHER]) {
    assert.equal(await stateAt(sites.east, name), 'running');
    const log = (await consoleLog(sites.east, name))!;
    const found = await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/);
    await waitForText(log, new RegExp(`LEDGER n=${Number(found[1]) + 5} `));
  }
  assert.equal(await stateAt(north, OTHER), 'shut off', 'the site that answers has shut its VM down first');
});

test('north, which has a replica too, knows that east runs the VM and does not bring up a second one', async () => {
  await eventually('north is told by east', async () => {
    const fence = await fenceAt(north);
    return fence?.site_name === 'east' && fence.epoch === 2 ? true : undefined;
  });
  await assert.rejects(cli(north, 'recover', VM), /VM ledger is running at site east/);
  assert.equal(await stateAt(sites.east, VM), 'running');
});

test('east protects the VM on to north, where the replica is taken up: only what differs travels', async (t) => {
  const before = (await sites.replica(VM, north))!;
  const [newest] = await sites.points(before.id, north);
  const view = await sites.protect(VM, 5000, { from: sites.east, to: 'north' });
  assert.deepEqual([view.state, view.replica_id, view.epoch], ['active', before.id, 2]);
  const point = await sites.pointAfter(VM, newest!.sequence, north);
  const points = await sites.points(before.id, north);
  const delta = points.find(({ sequence }) => sequence === newest!.sequence + 1) ?? point;
  t.diagnostic(`${delta.delta_bytes} bytes in the first point that east sent`);
  assert(delta.delta_bytes < STILL_BYTES / 4, `${delta.delta_bytes} bytes travelled`);
});

test('west is back: its copy may not run, and east protects the VM to it again, from its old copy', async () => {
  await sites.lab.restore('west', 'east');
  await sites.lab.restore('west', 'north');
  await sites.lab.start('west');
  const fence = await eventually('west knows', async () => {
    const known = await fenceAt(sites.west);
    return known?.copies[0]?.state === 'yielded' ? known : undefined;
  });
  assert.deepEqual([fence.site_name, fence.epoch], ['east', 2]);
  const { items } = await sites.api<{ items: ProtectionView[] }>(sites.west, 'GET', '/protections');
  assert.deepEqual(
    items.map(({ state }) => state),
    ['superseded', 'superseded'],
  );
  const view = await eventually(
    'the reprotection',
    async () => {
      try {
        return JSON.parse(await cli(sites.east, 'reprotect', VM, '--json')) as ProtectionView;
      } catch {
        // The managers have not met yet.
        return undefined;
      }
    },
    1000,
  );
  assert.deepEqual([view.state, view.site_name], ['active', 'west']);
});

test('by force north takes the VM from east: the copy there is paused before the new one runs', async () => {
  const view = JSON.parse(await cli(north, 'recover', VM, '--force', '--json')) as RecoveryView;
  assert.equal(view.state, 'done');
  const stop = view.steps.find(({ name }) => name === 'stop_source');
  assert.match(stop?.details[0]?.name ?? '', /the copy at site east yields: .* paused/);
  assert.equal(await stateAt(sites.east, VM), 'paused');
  const log = (await consoleLog(north, VM))!;
  await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/);
  for (const site of [sites.west, sites.east]) {
    await eventually(`${site.name} knows`, async () => {
      const fence = await fenceAt(site);
      return fence?.epoch === 3 && fence.site_name === 'north' ? true : undefined;
    });
  }
});
