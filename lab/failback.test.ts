/**
 * Home again, on real sites: west dies with writes that never reached east, east recovers, west returns and is compared,
 * and only what differs travels back.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { PointView, ReplicaView } from '#/api/replicas.ts';
import type { SeedView } from '#/api/reprotections.ts';
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
  await sites.west.virsh(['start', VM], { timeoutMs: 60_000 });
  await sites.protect(VM, RPO_MS);
  await waitForText(serialLog(sites.west, VM), /LEDGER n=5 /, { timeoutMs: 120_000 });
  await sites.pointAfter(VM, 0);
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

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
  t.diagnostic(JSON.stringify(seed));
  assert(seed.only_here !== null && seed.only_here.bytes > 0, seed.note ?? '');
  assert.match(await cli('west', 'reprotect', 'show', VM), /exist nowhere else[^]*vda/);
  const first = await eventually('a point of east', async () => {
    const { points } = await replicaAt('west');
    return points[0]!.sequence > seed.sequence! ? points : undefined;
  });
  const delta = first.find(({ sequence }) => sequence === seed.sequence! + 1)!;
  t.diagnostic(`${delta.delta_bytes} bytes in the first point that east sent`);
  assert(delta.delta_bytes < STILL_BYTES / 4, `${delta.delta_bytes} bytes travelled`);
});
