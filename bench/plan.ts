/**
 * From asking for a plan's run to the last VM's health, against plain libvirt that boots the same guests in the same
 * waves: what the plan adds to the time that the guests need for themselves.
 *
 * The run is a test: its views, overlays, starts, signs of life and probes are those of the real thing, and it can be
 * taken back for the next round. A disaster recovery also raises epochs and pulls disks beside the boots, which plain
 * boots have no like of. The guests were never started at west, so the source takes no processor away from either.
 * Both boot until the same text is seen on the serial port, from copies of disks that hold a ledger already.
 */
import { copyFile, rm } from 'node:fs/promises';
import type { RunView } from '#/api/runs.ts';
import { Places } from '#/agent/places.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { run } from '#lab/command.ts';
import { createLedger, ledgerDiskPaths, serialLog, waitForText } from '#lab/ledger-vm.ts';
import type { Site } from '#lab/site.ts';
import { TwoSites } from '#lab/two-sites.ts';
import { figure, interleave, median, medianRatio, type Benchmark } from './figure.ts';

const PLAN = 'all';
const PRIORITIES = 3;
const DEFAULT_VMS = 20;
const VMS_MAX = 100;
/** As many as an agent starts at the same time. */
const STARTS_AT_ONCE = 8;
/** What every guest says once it has read its disks. */
const BOOTED = 'LEDGER found';
const BOOT_MS_MAX = 300_000;
/** Records on the disks that all guests are copies of. */
const RECORDS = /LEDGER n=20 /;
/** No guest writes more than one record, and no cycle follows the first. */
const NEVER_MS = 86_400_000;
const RPO_MS = 3_600_000;
/** Asking takes a processor's time from the guests; when they were healthy is in the answer. */
const RUN_POLL_MS = 500;
const RUN_MS_MAX = 1_800_000;

export const plan: Benchmark = {
  about: "from a plan's start to its last VM's health, against plain boots (ANTIPODE_BENCH_VMS, 20)",
  run: async (options) => {
    const names = vmNames();
    await using sites = await TwoSites.up(options.say);
    const template = await makeTemplate(sites.east);
    options.say(`${names.length} VMs: copied to west and protected`);
    await protectAll(sites, names, template);
    await makePlan(sites, names);
    const waves = await definePlain(sites.east, names, template);
    const seconds = await interleave(
      { plan: () => runPlan(sites, names.length), plain: () => bootPlain(sites.east, waves) },
      options,
    );
    return [
      figure('plan run, to the last health', median(seconds.plan), 's'),
      figure('plain boots', median(seconds.plain), 's'),
      figure('plan run against plain boots', medianRatio(seconds.plan, seconds.plain), 'x', 1.1),
    ];
  },
};

function vmNames(): string[] {
  const count = Number(process.env['ANTIPODE_BENCH_VMS'] ?? DEFAULT_VMS);
  if (!Number.isInteger(count) || count < 1 || count > VMS_MAX) {
    throw new Failure('usage_invalid', `ANTIPODE_BENCH_VMS is a number from 1 to ${VMS_MAX}`);
  }
  return Array.from({ length: count }, (_, index) => `vm${String(index + 1).padStart(3, '0')}`);
}

function priorityOf(index: number): number {
  return (index % PRIORITIES) + 1;
}

/** Disks that a ledger has written. The first QEMU that a libvirt starts takes longer: this is it. */
async function makeTemplate(site: Site): Promise<string[]> {
  const name = 'template';
  await createLedger(site, { name });
  await waitForText(serialLog(site, name), RECORDS, { timeoutMs: BOOT_MS_MAX });
  await site.virsh(['destroy', '--graceful', name]);
  await site.virsh(['undefine', name]);
  return ledgerDiskPaths(site, name);
}

async function protectAll(
  sites: TwoSites,
  names: readonly string[],
  template: readonly string[],
): Promise<void> {
  for (const name of names) {
    await createLedger(sites.west, { name, intervalMs: NEVER_MS, start: false });
    const disks = ledgerDiskPaths(sites.west, name);
    for (const [index, path] of disks.entries()) await copyFile(template[index]!, path);
  }
  for (const name of names) await sites.protect(name, RPO_MS);
  for (const name of names) await sites.pointAfter(name, 0);
}

async function makePlan(sites: TwoSites, names: readonly string[]): Promise<void> {
  const health = [{ kind: 'serial', text: BOOTED }];
  const vms = names.map((name, index) => [name, { priority: priorityOf(index), health }] as const);
  await sites.api(sites.east, 'POST', '/groups', { name: PLAN, site: 'west', vms: names });
  await sites.api(sites.east, 'POST', '/plans', { name: PLAN, groups: [PLAN], vms: Object.fromEntries(vms) });
}

/** The same guests in the same site, known to libvirt alone. Answers their names by priority. */
async function definePlain(
  site: Site,
  names: readonly string[],
  template: readonly string[],
): Promise<string[][]> {
  const waves: string[][] = Array.from({ length: PRIORITIES }, () => []);
  for (const [index, vm] of names.entries()) {
    const name = `plain-${vm}`;
    await createLedger(site, { name, intervalMs: NEVER_MS, start: false });
    const disks = ledgerDiskPaths(site, name);
    for (const [disk, path] of disks.entries()) await copyFile(template[disk]!, baseOf(path));
    waves[priorityOf(index) - 1]!.push(name);
  }
  return waves;
}

function baseOf(path: string): string {
  return `${path}.base`;
}

async function runPlan(sites: TwoSites, count: number): Promise<number> {
  const { east } = sites;
  const startedMs = systemClock.now();
  const { id } = await sites.api<RunView>(east, 'POST', '/runs', { plan: PLAN, kind: 'test' });
  const ask = (): Promise<RunView> => sites.api<RunView>(east, 'GET', `/runs/${id}`);
  const tested = await untilOver('running', ask);
  const healthy = tested.vms.flatMap(({ healthy_ms: healthyMs }) => healthyMs ?? []);
  if (tested.state !== 'ready' || healthy.length !== count) {
    const why = tested.failure?.message ?? `${healthy.length} of ${count} VMs are healthy`;
    throw new Failure('tool_failed', `the test of the plan is ${tested.state}: ${why}`);
  }
  await sites.api(east, 'POST', `/runs/${id}/cleanup`);
  const cleaned = await untilOver('cleaning', ask);
  if (cleaned.state !== 'cleaned') throw new Failure('tool_failed', `the cleanup ended ${cleaned.state}`);
  return (Math.max(...healthy) - startedMs) / 1000;
}

/** The run once it is in another state; on a busy machine that takes longer than other things may. */
async function untilOver(state: RunView['state'], ask: () => Promise<RunView>): Promise<RunView> {
  const end = systemClock.monotonicMs() + RUN_MS_MAX;
  while (systemClock.monotonicMs() < end) {
    const view = await ask();
    if (view.state !== state) return view;
    await systemClock.sleep(RUN_POLL_MS);
  }
  throw new Failure('timeout', `the run of the plan was ${state} for ${RUN_MS_MAX / 60_000} minutes`);
}

/** The waves follow each other at once, so the time of all is the sum of theirs. */
async function bootPlain(site: Site, waves: readonly (readonly string[])[]): Promise<number> {
  const names = waves.flat();
  for (const name of names) await makeFresh(site, name);
  try {
    const startedMs = systemClock.monotonicMs();
    for (const wave of waves) {
      const places = new Places(STARTS_AT_ONCE);
      await Promise.all(wave.map((name) => bootOne(site, name, places)));
    }
    return (systemClock.monotonicMs() - startedMs) / 1000;
  } finally {
    for (const name of names) await site.virsh(['destroy', name], { allowFailure: true });
  }
}

async function makeFresh(site: Site, name: string): Promise<void> {
  await rm(serialLog(site, name), { force: true });
  for (const path of ledgerDiskPaths(site, name)) {
    await run(['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', baseOf(path), path]);
  }
}

async function bootOne(site: Site, name: string, places: Places): Promise<void> {
  using _place = await places.take(AbortSignal.timeout(BOOT_MS_MAX));
  await site.virsh(['start', name], { timeoutMs: BOOT_MS_MAX });
  await waitForText(serialLog(site, name), new RegExp(BOOTED), { timeoutMs: BOOT_MS_MAX });
}
