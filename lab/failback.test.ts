/**
 * Home again, on real sites: west dies with writes that never reached east, east recovers, west returns and is compared,
 * and only what differs travels back.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { EventView } from '#/api/events.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { PointView, ReplicaView } from '#/api/replicas.ts';
import type { SeedView } from '#/api/reprotections.ts';
import type { RetiredView } from '#/api/retired.ts';
import { run } from './command.ts';
import {
  consoleLog,
  createLedger,
  DISK_BYTES,
  ledgerDiskPaths,
  serialLog,
  waitForText,
} from './ledger-vm.ts';
import { eventually, TwoSites } from './two-sites.ts';

const VM = 'ledger';
const RPO_MS = 5000;
/** A third disk, full of what no compression shrinks, which no guest writes: it must not travel again. */
const STILL_BYTES = 24 * 1024 * 1024;
/** A network of west alone. */
const HOME = 'home';
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  await createLedger(sites.west, {
    name: VM,
    diskBytes: [DISK_BYTES, DISK_BYTES, STILL_BYTES],
    start: false,
  });
  await fillStillDisk();
  await connectTo(HOME);
  await sites.west.virsh(['start', VM], { timeoutMs: 60_000 });
  await sites.protect(VM, RPO_MS);
  await waitForText(serialLog(sites.west, VM), /LEDGER n=5 /, { timeoutMs: 120_000 });
  await sites.pointAfter(VM, 0);
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

/** Puts the VM on a network that east has not. */
async function connectTo(network: string): Promise<void> {
  const file = join(sites.west.directory, 'home.xml');
  await writeFile(file, `<network><name>${network}</name><bridge name='virbrhome'/></network>`);
  await sites.west.virsh(['net-define', file]);
  await sites.west.virsh(['net-start', network]);
  const xml = await sites.west.virsh(['dumpxml', VM, '--inactive']);
  await writeFile(file, xml.replace("network='default'", `network='${network}'`));
  await sites.west.virsh(['define', file]);
  await rm(file);
}

async function networkAt(site: 'west' | 'east'): Promise<string> {
  return /<source network='([^']+)'/.exec(await sites[site].virsh(['dumpxml', VM, '--inactive']))?.[1] ?? '';
}

async function fillStillDisk(): Promise<void> {
  const path = ledgerDiskPaths(sites.west, VM, 3)[2]!;
  const raw = `${path}.raw`;
  await writeFile(raw, randomBytes(STILL_BYTES));
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path]);
  await rm(raw);
}

async function cli(site: 'west' | 'east', ...args: string[]): Promise<string> {
  const manager = `unix:${sites[site].managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, ...args, '--manager', manager], {
    timeoutMs: 240_000,
  });
  return stdout;
}

/** The replica that a site keeps, and its points, newest first. */
async function replicaAt(site: 'west' | 'east'): Promise<{ replica: ReplicaView; points: PointView[] }> {
  const { items } = await sites.api<{ items: ReplicaView[] }>(sites[site], 'GET', '/replicas');
  const replica = items.find(({ vm_name: name }) => name === VM)!;
  const path = `/points?replica=${replica.id}&limit=1000`;
  const page = await sites.api<{ items: PointView[] }>(sites[site], 'GET', path);
  return { replica, points: page.items.toSorted((a, b) => b.sequence - a.sequence) };
}

async function lastRecord(log: string): Promise<number> {
  const said = await readFile(log, 'latin1');
  return Math.max(0, ...[...said.matchAll(/LEDGER n=(\d+) /g)].map(([, number]) => Number(number)));
}

/** What the first cycle of a site towards the other one read: what the VM wrote there, and what differed. */
async function readBack(site: 'west' | 'east'): Promise<string> {
  const message = await eventually('the first cycle back', async () => {
    const { items } = await sites.api<{ items: EventView[] }>(sites[site], 'GET', '/events?limit=1000');
    return items.find(({ kind }) => kind === 'replication.returned')?.message;
  });
  const [, readBytes, changedBytes] = /read (\d+) bytes, of which (\d+)/.exec(message) ?? [];
  assert(Number(changedBytes) > 0 && Number(readBytes) < STILL_BYTES / 4, message);
  return message;
}

test('west dies with writes that east never had, and east recovers', async () => {
  const log = serialLog(sites.west, VM);
  await sites.lab.cut('west', 'east');
  await waitForText(log, new RegExp(`LEDGER n=${(await lastRecord(log)) + 40} `));
  await sites.lab.killSite('west');
  const view = JSON.parse(await cli('east', 'recover', VM, '--json')) as RecoveryView;
  assert.equal(view.state, 'done');
  const recovered = (await consoleLog(sites.east, VM))!;
  const found = await waitForText(recovered, /LEDGER found A=(\d+) B=(\d+) good/);
  await waitForText(recovered, new RegExp(`LEDGER n=${Number(found[1]) + 5} `));
});

test('west is back: its old copy becomes a point there, what only it had is listed, and only what differs travels', async (t) => {
  await sites.lab.restore('west', 'east');
  await sites.lab.start('west');
  const view = await eventually(
    'the reprotection',
    async () => {
      try {
        return JSON.parse(await cli('east', 'reprotect', VM, '--json')) as ProtectionView;
      } catch (error) {
        t.diagnostic(String(error));
        // The managers have not met yet.
        return undefined;
      }
    },
    1000,
  );
  assert.deepEqual([view.state, view.site_name, view.rpo_ms], ['active', 'west', RPO_MS]);
  const seed = await sites.api<SeedView>(sites.west, 'GET', `/seeds/${VM}`);
  t.diagnostic(seed.note ?? '');
  assert(seed.only_here !== null && seed.only_here.bytes > 0, seed.note ?? '');
  assert.match(await cli('west', 'reprotect', 'show', VM), /exist nowhere else[^]*vda/);
  const first = await eventually('a point of east', async () => {
    const { points } = await replicaAt('west');
    return points[0]!.sequence > seed.sequence! ? points : undefined;
  });
  const delta = first.find(({ sequence }) => sequence === seed.sequence! + 1)!;
  t.diagnostic(`${delta.delta_bytes} bytes in the first point that east sent`);
  assert(delta.delta_bytes < STILL_BYTES / 4, `${delta.delta_bytes} bytes travelled`);
  t.diagnostic(await readBack('east'));
});

test('the VM comes home with all that it wrote, on its own network, and is protected as it was', async (t) => {
  const away = (await consoleLog(sites.east, VM))!;
  assert.equal(await networkAt('east'), 'default');
  await waitForText(away, new RegExp(`LEDGER n=${(await lastRecord(away)) + 5} `));
  const view = JSON.parse(await cli('west', 'failback', VM, '--json')) as RecoveryView;
  assert.equal(view.state, 'done');
  const written = await lastRecord(away);
  const home = (await consoleLog(sites.west, VM))!;
  const found = await waitForText(home, /LEDGER found A=(\d+) B=(\d+) good/);
  const [a, b] = [Number(found[1]), Number(found[2])];
  assert(a >= written && (b === a || b === a - 1), `A=${a} B=${b}, and ${written} were written`);
  assert.equal(await networkAt('west'), HOME);
  const protection = await eventually('the protection of before', async () => {
    const { items } = await sites.api<{ items: ProtectionView[] }>(sites.west, 'GET', '/protections');
    return items.find(({ vm_name: name, state }) => name === VM && state === 'active');
  });
  assert.deepEqual([protection.rpo_ms, protection.site_name], [RPO_MS, 'east']);
  const seed = await sites.api<SeedView>(sites.east, 'GET', `/seeds/${VM}`);
  t.diagnostic(seed.note ?? '');
  assert.equal(seed.only_here?.bytes, 0, 'a planned way home leaves nothing behind');
  const { points } = await eventually('a point of west', async () => {
    const now = await replicaAt('east');
    return now.points[0]!.sequence > seed.sequence! ? now : undefined;
  });
  const delta = points.find(({ sequence }) => sequence === seed.sequence! + 1)!;
  t.diagnostic(`${delta.delta_bytes} bytes in the first point that west sent`);
  assert(delta.delta_bytes < STILL_BYTES / 4, `${delta.delta_bytes} bytes travelled`);
  t.diagnostic(await readBack('west'));
});

test('the old copy at home is kept until a person removes it', async () => {
  const disks = ledgerDiskPaths(sites.west, VM, 3);
  assert(disks.every((path) => existsSync(path)));
  const { items } = JSON.parse(await cli('west', 'retired', 'list', '--json')) as { items: RetiredView[] };
  assert.deepEqual(
    items.map(({ vm_name: name, disks: kept }) => [name, kept.map(({ path }) => path)]),
    [[VM, disks]],
  );
  await cli('west', 'retired', 'remove', items[0]!.id);
  await eventually('its disks are gone', async () =>
    disks.some((path) => existsSync(path)) ? undefined : true,
  );
  assert.match(await sites.west.virsh(['domstate', VM]), /running/);
});
