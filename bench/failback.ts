/**
 * The way home after a disaster: bytes on the wire for each byte that differs, and bytes that are read at the site that
 * recovered for each byte that was written there or differs. West dies with writes that east never had, east recovers
 * and writes on, west returns, and the VM is reprotected until its first own point is acknowledged.
 *
 * What is counted is what east's interface sends to west, as in wire.ts: Ethernet, IP and TCP headers, TLS, frames,
 * digests, and whatever else the sites say to each other meanwhile. What differs is found by comparing the images of
 * both sites block by block, 4 KiB each, of a disk that is full of incompressible data from the start. What was written
 * counts with the 64 KiB around it, since QEMU's bitmaps know no less. What was read is what the agent's event says.
 */
import { randomBytes } from 'node:crypto';
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { EventView } from '#/api/events.ts';
import type { PointView, ReplicaView } from '#/api/replicas.ts';
import type { SeedView } from '#/api/reprotections.ts';
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { run } from '#lab/command.ts';
import { createLedger, ledgerDiskPaths } from '#lab/ledger-vm.ts';
import type { Site } from '#lab/site.ts';
import { eventually, TwoSites, wanBytesSent } from '#lab/two-sites.ts';
import { figure, median, type Benchmark } from './figure.ts';
import { writeBlocks } from './random-writes.ts';

const VM = 'home';
const NEVER_MS = 86_400_000;
const SMALL_BYTES = 8 * 1024 * 1024;
const DISK_BYTES = 128 * 1024 * 1024;
/** At each site, after they parted. */
const WRITES = 1500;
const RPO_MS = 5000;
/** Of QEMU's bitmaps. */
const GRAIN_BLOCKS = (64 * 1024) / BLOCK_BYTES;
const KEYS = ['vda', 'vdb', 'vdc'];
const ANTIPODE = join(import.meta.dirname, '..', 'antipode');

export const failback: Benchmark = {
  about: 'bytes sent for each byte that differs, and bytes read, when a VM goes home after a disaster',
  run: async (options) => {
    const [sent, read, whole]: [number[], number[], number[]] = [[], [], []];
    for (let round = 1; round <= options.rounds; round++) {
      const home = await homeOnce(options.say);
      const { sentBytes, differingBytes, readBytes, touchedBytes } = home;
      sent.push(sentBytes / differingBytes);
      read.push(readBytes / touchedBytes);
      whole.push(readBytes / (DISK_BYTES + 2 * SMALL_BYTES));
      options.say(
        `round ${round} of ${options.rounds}: ${sentBytes} bytes sent, ${differingBytes} differ; ` +
          `${readBytes} bytes read, ${touchedBytes} were written or differ`,
      );
    }
    return [
      figure('bytes on the wire a byte that differs', median(sent), 'x', 1.05),
      figure('bytes read a byte that was written or differs', median(read), 'x', 1.05),
      figure('bytes read a byte of the disks', median(whole), 'x'),
    ];
  },
};

type Home = {
  sentBytes: number;
  differingBytes: number;
  readBytes: number;
  /** What the bitmaps name at the site that recovered, and what differs. */
  touchedBytes: number;
};

async function homeOnce(say: (line: string) => void): Promise<Home> {
  await using sites = await TwoSites.up(say);
  const { east, west } = sites;
  const diskBytes = [SMALL_BYTES, SMALL_BYTES, DISK_BYTES];
  await createLedger(west, { name: VM, diskBytes, intervalMs: NEVER_MS, start: false });
  await fill(ledgerDiskPaths(west, VM, 3)[2]!);
  await west.virsh(['start', VM], { timeoutMs: 60_000 });
  await sites.protect(VM, RPO_MS);
  await sites.pointAfter(VM, 0);
  await sites.lab.cut('west', 'east');
  await writeBlocks({ site: west, vm: VM, index: 2, bytes: DISK_BYTES }, WRITES);
  await sites.lab.killSite('west');
  await run([ANTIPODE, 'recover', VM, '--manager', `unix:${east.managerSocket}`], { timeoutMs: 300_000 });
  const written = await writeBlocks({ site: east, vm: VM, index: 2, bytes: DISK_BYTES }, WRITES);
  // A guest that is paused writes nothing while its images are compared; it is replicated all the same.
  await east.virsh(['suspend', VM]);
  await sites.lab.restore('west', 'east');
  await sites.lab.start('west');
  const before = await reprotect(sites);
  await firstOwnPoint(sites);
  const sentBytes = (await wanBytesSent(sites, 'east')) - before;
  const readBytes = await bytesRead(sites);
  const differing = await differingBlocks(sites);
  const touched = new Set(differing);
  for (const block of written) {
    const grain = block - (block % GRAIN_BLOCKS);
    for (let at = grain; at < grain + GRAIN_BLOCKS; at++) touched.add(`vdc ${at}`);
  }
  return {
    sentBytes,
    differingBytes: differing.size * BLOCK_BYTES,
    readBytes,
    touchedBytes: touched.size * BLOCK_BYTES,
  };
}

/** By the first cycle towards the site that is home. */
async function bytesRead(sites: TwoSites): Promise<number> {
  return await eventually('what the first cycle back has read', async () => {
    const path = '/events?limit=1000';
    const { items } = await sites.api<{ items: EventView[] }>(sites.east, 'GET', path);
    const returned = items.find(
      ({ kind }) => kind === 'replication.returned' || kind === 'replication.compared',
    );
    if (returned?.kind === 'replication.compared') throw new Error('east has read everything');
    const bytes = /read (\d+) bytes/.exec(returned?.message ?? '')?.[1];
    return bytes === undefined ? undefined : Number(bytes);
  });
}

/** Resolves with what east had sent when the reprotection that was accepted began. */
async function reprotect(sites: TwoSites): Promise<number> {
  return await eventually('the reprotection', async () => {
    const before = await wanBytesSent(sites, 'east');
    try {
      await sites.api(sites.east, 'POST', '/reprotections', { vm: VM });
      return before;
    } catch {
      // The managers have not met yet.
      return undefined;
    }
  });
}

async function firstOwnPoint(sites: TwoSites): Promise<void> {
  await eventually(
    'a point of east at west',
    async () => {
      const { items } = await sites.api<{ items: ReplicaView[] }>(sites.west, 'GET', '/replicas');
      const replica = items.find(({ vm_name: name }) => name === VM);
      if (replica === undefined || replica.state !== 'active') return undefined;
      const seed = await sites.api<SeedView>(sites.west, 'GET', `/seeds/${VM}`);
      if (seed.sequence === null) throw new Error(`the old copy was not used: ${seed.note}`);
      const path = `/points?replica=${replica.id}&limit=1`;
      const points = await sites.api<{ items: PointView[] }>(sites.west, 'GET', path);
      return (points.items[0]?.sequence ?? 0) > seed.sequence ? true : undefined;
    },
    100,
  );
}

async function fill(path: string): Promise<void> {
  const raw = `${path}.raw`;
  await writeFile(raw, randomBytes(DISK_BYTES));
  await run(['qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, path], { timeoutMs: 120_000 });
  await rm(raw);
}

/** Over all disks, by their keys: the old copy at west against the VM that runs at east. */
async function differingBlocks(sites: TwoSites): Promise<Set<string>> {
  const old = ledgerDiskPaths(sites.west, VM, 3);
  const now = await diskPaths(sites.east);
  const found = new Set<string>();
  for (const [index, key] of KEYS.entries()) {
    const [a, b] = [await rawCopy(old[index]!), await rawCopy(now.get(key)!)];
    for (const block of await differing(a, b)) found.add(`${key} ${block}`);
    await Promise.all([rm(a), rm(b)]);
  }
  return found;
}

async function diskPaths(site: Site): Promise<Map<string, string>> {
  const listed = await site.virsh(['domblklist', VM]);
  return new Map([...listed.matchAll(/^\s*(vd[a-z])\s+(\/\S+)/gm)].map(([, key, path]) => [key!, path!]));
}

async function rawCopy(image: string): Promise<string> {
  const raw = `${image}.compare`;
  await run(['qemu-img', 'convert', '-U', '-f', 'qcow2', '-O', 'raw', image, raw], { timeoutMs: 120_000 });
  return raw;
}

async function differing(pathA: string, pathB: string): Promise<number[]> {
  await using a = await open(pathA);
  await using b = await open(pathB);
  const [blockA, blockB] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)];
  const blocks: number[] = [];
  for (let offset = 0; ; offset += BLOCK_BYTES) {
    const [{ bytesRead }] = await Promise.all([
      a.read(blockA, 0, BLOCK_BYTES, offset),
      b.read(blockB, 0, BLOCK_BYTES, offset),
    ]);
    if (bytesRead === 0) return blocks;
    if (!blockA.equals(blockB)) blocks.push(offset / BLOCK_BYTES);
  }
}
