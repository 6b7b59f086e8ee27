/**
 * A planned migration between real sites: nothing is lost, and what fails on the way leaves the VM where it was.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RecoveryView } from '#/api/recoveries.ts';
import { run } from './command.ts';
import { consoleLog, createLedger, serialLog, waitForText } from './ledger-vm.ts';
import { TwoSites } from './two-sites.ts';

const VM = 'ledger';
/** Finds nothing to boot, and hears neither its power button nor an agent's command. */
const DEAF = 'deaf';
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  await createLedger(sites.west, { name: VM });
  await sites.west.virsh(['autostart', VM]);
  await createDeaf();
  await sites.protect(VM, 5000);
  await sites.protect(DEAF, 60_000);
  await waitForText(serialLog(sites.west, VM), /LEDGER n=5 /, { timeoutMs: 120_000 });
  for (const vm of [VM, DEAF]) await sites.pointAfter(vm, 0);
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

async function createDeaf(): Promise<void> {
  await createLedger(sites.west, { name: DEAF, start: false });
  const xml = await sites.west.virsh(['dumpxml', DEAF, '--inactive']);
  const path = join(sites.west.directory, 'deaf.xml');
  await writeFile(path, xml.replaceAll(/<(kernel|initrd|cmdline)>.*<\/\1>/g, ''));
  await sites.west.virsh(['define', path]);
  await sites.west.virsh(['start', DEAF], { timeoutMs: 60_000 });
}

async function atEast(...args: string[]): Promise<string> {
  const manager = `unix:${sites.east.managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, ...args, '--manager', manager], {
    timeoutMs: 240_000,
  });
  return stdout;
}

/** State and autostart. */
async function atWest(vm = VM): Promise<[string, boolean]> {
  const info = await sites.west.virsh(['dominfo', vm]);
  return [/^State: +(.*)$/m.exec(info)![1]!.trim(), /^Autostart: +enable/m.test(info)];
}

test('a guest that does not follow runs on after its time, and is replicated as before', async () => {
  const before = (await sites.replica(DEAF))!;
  await assert.rejects(
    atEast('migrate', DEAF, '--shut-down-timeout', '6s'),
    /has not shut down within 6 s, .*it runs on; at the protected site it is as it was before/,
  );
  assert.deepEqual(await atWest(DEAF), ['running', false]);
  const now = (await sites.replica(DEAF))!;
  assert.deepEqual([now.state, now.epoch], [before.state, before.epoch]);
});

test('a migration that fails at east is given back: the VM runs at west again, with its autostart', async () => {
  const offset = (await readFile(serialLog(sites.west, VM))).length;
  await assert.rejects(atEast('migrate', VM, '--network', 'default=nowhere'), /nowhere.*antipode cleanup/s);
  assert.deepEqual(await atWest(), ['shut off', false]);
  await atEast('cleanup', VM);
  assert.deepEqual(await atWest(), ['running', true]);
  const log = serialLog(sites.west, VM);
  const [, written] = await waitForText(log, /LEDGER shutdown n=(\d+)/, { offset });
  const found = await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/, { offset, timeoutMs: 120_000 });
  assert.deepEqual([found[1], found[2]], [written, written]);
  const newest = (await sites.points((await sites.replica(VM))!.id))[0]!.sequence;
  // Nobody asks for that: its protection is as it was.
  await sites.pointAfter(VM, newest);
});

test('a migration loses nothing: the last record of west is the last one found at east, and west stays off', async (t) => {
  const log = serialLog(sites.west, VM);
  const offset = (await readFile(log)).length;
  const view = JSON.parse(await atEast('migrate', VM, '--json')) as RecoveryView;
  assert.equal(view.state, 'done');
  t.diagnostic(view.steps.map(({ name, started_ms: a, ended_ms: b }) => `${name} ${b! - a} ms`).join(', '));
  assert.match(view.steps[1]!.details[0]!.name, /equal at both sites, all 2 disks/);
  const [, written] = await waitForText(log, /LEDGER shutdown n=(\d+)/, { offset });
  const recovered = await consoleLog(sites.east, VM);
  const found = await waitForText(recovered!, /LEDGER found A=(\d+) B=(\d+) good/, { timeoutMs: 120_000 });
  assert.deepEqual([found[1], found[2]], [written, written]);
  await waitForText(recovered!, new RegExp(`LEDGER n=${Number(written) + 3} `));
  assert.deepEqual(await atWest(), ['shut off', false]);
  const { code, stderr } = await sites.west.exec(['virsh', '-q', '-c', 'qemu:///system', 'start', VM], {
    allowFailure: true,
    timeoutMs: 60_000,
  });
  assert.notEqual(code, 0);
  assert.match(stderr, /it runs at site east since epoch 4/);
});
