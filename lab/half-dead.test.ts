/**
 * A protected site that is half dead, and one that is only believed dead: its manager is gone while its hosts work, or
 * the storage of a VM fails under it while everything answers. A plan runs from the other site; what it says beforehand
 * is true, and what is left there yields.
 */
import assert from 'node:assert/strict';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { FenceView } from '#/api/fences.ts';
import type { RunCheck, RunView } from '#/api/runs.ts';
import { run } from './command.ts';
import { consoleLog, createLedger, ledgerDiskPaths, serialLog, waitForText } from './ledger-vm.ts';
import { eventually, TwoSites } from './two-sites.ts';

/** Its host loses the manager. */
const ORPHAN = 'orphan';
/** Nothing is wrong with it. */
const BELIEVED = 'believed';
/** Its disks are on a file system of their own, which fails. */
const STRANDED = 'stranded';
const VMS = [ORPHAN, BELIEVED, STRANDED];
/** XFS makes none that is smaller. */
const FILE_SYSTEM_BYTES = 300 * 1024 * 1024;
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
let storage: string;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  const { west } = sites;
  storage = join(west.diskDirectory, 'array');
  await createLedger(west, { name: ORPHAN });
  await createLedger(west, { name: BELIEVED });
  await createStranded();
  for (const name of VMS) await sites.protect(name, 5000);
  for (const name of VMS) {
    await waitForText(serialLog(west, name), /LEDGER n=5 /, { timeoutMs: 120_000 });
    await sites.pointAfter(name, 0);
    await sites.api(sites.east, 'POST', '/groups', { name, site: 'west', vms: [name] });
  }
  for (const name of [ORPHAN, BELIEVED]) {
    await sites.api(sites.east, 'POST', '/plans', { name, groups: [name] });
  }
  const vms = { [STRANDED]: { shut_down: 'power_off' } };
  await sites.api(sites.east, 'POST', '/plans', { name: STRANDED, groups: [STRANDED], vms });
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

/** The mount is in the site's own namespace, and goes with it. */
async function createStranded(): Promise<void> {
  const { west } = sites;
  await createLedger(west, { name: STRANDED, start: false });
  const image = `${storage}.xfs`;
  await run(['truncate', '-s', String(FILE_SYSTEM_BYTES), image]);
  await run(['mkfs.xfs', '-q', image]);
  await west.exec(['mkdir', storage]);
  await west.exec(['mount', '-o', 'loop', image, storage]);
  let xml = await west.virsh(['dumpxml', STRANDED, '--inactive']);
  for (const path of ledgerDiskPaths(west, STRANDED)) {
    await west.exec(['mv', path, storage]);
    xml = xml.replace(path, join(storage, path.slice(west.diskDirectory.length + 1)));
  }
  const definition = join(west.directory, 'stranded.xml');
  await writeFile(definition, xml);
  await west.virsh(['define', definition]);
  await rm(definition);
  await west.virsh(['start', STRANDED], { timeoutMs: 60_000 });
}

async function plan(...args: string[]): Promise<RunView> {
  const manager = ['--manager', `unix:${sites.east.managerSocket}`, '--json'];
  const { stdout } = await run([process.execPath, CLI, 'plan', ...args, ...manager], { timeoutMs: 240_000 });
  return JSON.parse(stdout) as RunView;
}

const check = (name: string): Promise<RunCheck> =>
  sites.api<RunCheck>(sites.east, 'POST', '/runs/check', { plan: name, kind: 'disaster' });

async function stateAtWest(name: string): Promise<string> {
  return (await sites.west.virsh(['domstate', name])).trim();
}

/** The last record of disk A from before it was recovered, by what the guest at east has found. */
async function foundAtEast(name: string): Promise<number> {
  const log = await consoleLog(sites.east, name);
  assert(log !== undefined, 'its console is logged');
  const found = await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/, { timeoutMs: 120_000 });
  const [a, b] = [Number(found[1]), Number(found[2])];
  assert(b === a || b === a - 1, `${name}: A=${a} B=${b}`);
  await waitForText(log, new RegExp(`LEDGER n=${a + 5} `), { timeoutMs: 120_000 });
  return a;
}

async function yieldedAtWest(name: string): Promise<FenceView> {
  return eventually(`the copy of ${name} at west yields`, async () => {
    const { items } = await sites.api<{ items: FenceView[] }>(sites.west, 'GET', '/fences');
    const fence = items.find((view) => view.vm_name === name);
    return fence?.copies[0]?.state === 'yielded' ? fence : undefined;
  });
}

test('a site that is only believed dead: its VM is shut down first, and nothing that it wrote is lost', async () => {
  const before = await check(BELIEVED);
  assert.equal(before.vms[0]?.source, 'answers');
  const done = await plan('run', BELIEVED, '--yes');
  assert.equal(done.state, 'done');
  assert.equal(await stateAtWest(BELIEVED), 'shut off');
  const text = await readFile(serialLog(sites.west, BELIEVED), 'latin1');
  const records = [...text.matchAll(/LEDGER n=(\d+) /g)].map(([, number]) => Number(number));
  assert.equal(await foundAtEast(BELIEVED), Math.max(...records));
});

test('storage gone while all programs answer: the run ends what is left of the VM, and brings it up at east', async () => {
  await sites.west.exec(['xfs_io', '-x', '-c', 'shutdown', storage]);
  const before = await check(STRANDED);
  assert.deepEqual(
    [before.is_possible, before.vms[0]?.source],
    [true, 'answers'],
    'the site answers, whatever became of the VM',
  );
  assert(before.vms[0]!.age_ms !== null, 'and the age of what would come up is told');
  const done = await plan('run', STRANDED, '--yes');
  assert.equal(done.state, 'done');
  const last = done.steps!.find((step) => step.kind === 'last_cycle');
  assert.equal(last?.state, 'failed');
  assert.match(last.failure!.message, /stranded-vda\.qcow2 cannot be read/);
  await foundAtEast(STRANDED);
  assert.notEqual(await stateAtWest(STRANDED), 'running');
});

test('manager gone while its hosts work: what cannot be known is said, and the copy yields when it is back', async () => {
  await sites.lab.kill('west', 'manager');
  const before = await check(ORPHAN);
  assert.deepEqual([before.is_possible, before.vms[0]?.source], [true, 'silent']);
  assert.match(before.warnings.join(), /site west does not answer/);
  const done = await plan('run', ORPHAN, '--yes');
  assert.equal(done.state, 'done');
  await foundAtEast(ORPHAN);
  // Nobody at west could know; from here on its writes reach no replica.
  const log = serialLog(sites.west, ORPHAN);
  const { length } = await readFile(log, 'latin1');
  await waitForText(log, /LEDGER n=\d+ /, { offset: length });
  await sites.lab.start('west', 'manager');
  const fence = await yieldedAtWest(ORPHAN);
  assert.equal(fence.is_here, false);
  assert.equal(await stateAtWest(ORPHAN), 'paused');
});
