/**
 * I5 between real sites: what runs at east is made to yield at west when west comes back, is refused to start there,
 * also without our programs, and comes back by a release.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { EventView } from '#/api/events.ts';
import type { FenceView } from '#/api/fences.ts';
import type { Host, Vm } from '#/api/inventory.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { run } from './command.ts';
import { createLedger, serialLog, waitForText } from './ledger-vm.ts';
import { eventually, TwoSites } from './two-sites.ts';

const VM = 'ledger';
const FREE = 'free';
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');
/** From the link's return to the pause; the managers ask each other every second. */
const YIELD_MS = 10_000;

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  await createLedger(sites.west, { name: VM });
  // Of no site's business: it must start whatever happens.
  await createLedger(sites.west, { name: FREE, start: false });
  await sites.protect(VM, 5000);
  await waitForText(serialLog(sites.west, VM), /LEDGER n=5 /, { timeoutMs: 120_000 });
  await sites.pointAfter(VM, 0);
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

async function cli(site: 'west' | 'east', ...args: string[]): Promise<string> {
  const manager = `unix:${sites[site].managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, ...args, '--manager', manager], {
    timeoutMs: 240_000,
  });
  return stdout;
}

async function stateAtWest(vm = VM): Promise<string> {
  return (await sites.west.virsh(['domstate', vm])).trim();
}

/** What a person reads who tries to start it at west. */
async function startAtWest(): Promise<string> {
  const { code, stderr } = await sites.west.exec(['virsh', '-q', '-c', 'qemu:///system', 'start', VM], {
    allowFailure: true,
    timeoutMs: 60_000,
  });
  assert.notEqual(code, 0, 'libvirt refuses to start it');
  return stderr;
}

async function fenceAt(site: 'west' | 'east'): Promise<FenceView> {
  const { items } = await sites.api<{ items: FenceView[] }>(sites[site], 'GET', '/fences');
  return items.find((view) => view.vm_name === VM)!;
}

test('both hosts say that their start hook was seen at work, and the protected VM carries its epoch', async () => {
  for (const site of [sites.west, sites.east]) {
    await eventually(`the start hook of ${site.name} works`, async () => {
      const { items } = await sites.api<{ items: Host[] }>(site, 'GET', '/hosts');
      return items[0]?.start_hook?.is_working === true ? true : undefined;
    });
  }
  await eventually('the mark', async () => {
    const xml = await sites.west.virsh(['dumpxml', VM, '--inactive']);
    return /urn:antipode:epoch:1" epoch="1"/.test(xml) ? true : undefined;
  });
});

test('a test recovery starts at east while the VM runs at west, and is cleaned up', async () => {
  await cli('east', 'recover', VM, '--test');
  assert.equal(await stateAtWest(), 'running');
  await cli('east', 'cleanup', VM);
});

test('cut the link and recover at east: when the link is back, the copy of west is paused within seconds', async (t) => {
  await sites.lab.cut('west', 'east');
  const view = JSON.parse(await cli('east', 'recover', VM, '--json')) as RecoveryView;
  assert.equal(view.state, 'done');
  const stop = view.steps.find(({ name }) => name === 'stop_source');
  assert.match(stop?.details[0]?.name ?? '', /protected site does not answer/);
  assert.equal(await stateAtWest(), 'running', 'nobody at west can know');
  await sites.lab.restore('west', 'east');
  const restoredMs = Date.now();
  await eventually('the copy of west is paused', async () =>
    (await stateAtWest()) === 'paused' ? true : undefined,
  );
  const tookMs = Date.now() - restoredMs;
  t.diagnostic(`paused ${tookMs} ms after the link was back`);
  assert(tookMs < YIELD_MS);
  const fence = await eventually('west says so', async () => {
    const known = await fenceAt('west');
    return known.copies[0]?.state === 'yielded' ? known : undefined;
  });
  assert.deepEqual([fence.epoch, fence.site_name, fence.is_here], [2, 'east', false]);
  const { items } = await sites.api<{ items: EventView[] }>(sites.west, 'GET', '/events');
  const told = items.find(({ kind }) => kind === 'fence.yielded');
  assert.match(told?.message ?? '', /site east has run it since .* with epoch 2.*it was paused/);
  assert.match(await cli('west', 'vms'), /paused, has yielded: runs at east since epoch 2/);
  assert.match(await cli('west', 'status'), /the copy here has yielded/);
  const vms = await sites.api<{ items: Vm[] }>(sites.east, 'GET', '/vms');
  assert.deepEqual(
    vms.items.filter(({ name }) => name === VM).map(({ state, fence: of }) => [state, of]),
    [['running', null]],
  );
});

test('what has yielded is not started at west: by hand, without our programs, or after a power failure', async () => {
  await sites.west.virsh(['destroy', VM]);
  const said = /Antipode refuses to start VM ledger: it runs at site east since epoch 2/;
  assert.match(await startAtWest(), said);
  await sites.lab.kill('west', 'agent');
  await sites.lab.kill('west', 'manager');
  assert.match(await startAtWest(), said);
  await sites.lab.killSite('west');
  await sites.lab.start('west', 'libvirtd');
  assert.match(await startAtWest(), said);
  await sites.lab.start('west');
  await sites.west.virsh(['start', FREE], { timeoutMs: 60_000 });
  assert.equal(await stateAtWest(FREE), 'running');
  await sites.west.virsh(['destroy', FREE]);
});

test('a person lets the copy of west run again: east is asked first, and its copy yields', async () => {
  const refused = cli('west', 'fence', 'release', VM);
  await assert.rejects(refused, /running at site east/);
  await sites.east.virsh(['destroy', VM]);
  await eventually('the release', async () => {
    try {
      return await cli('west', 'fence', 'release', VM);
    } catch {
      // east has not reported yet that the VM is off.
      return undefined;
    }
  });
  await eventually('west may start it', async () => {
    const xml = await sites.west.virsh(['dumpxml', VM, '--inactive']);
    return /urn:antipode:epoch:1" epoch="3"/.test(xml) ? true : undefined;
  });
  await sites.west.virsh(['start', VM], { timeoutMs: 60_000 });
  assert.equal(await stateAtWest(), 'running');
  await eventually('east knows', async () => ((await fenceAt('east')).epoch === 3 ? true : undefined));
  await eventually('east refuses', async () => {
    const { code, stderr } = await sites.east.exec(['virsh', '-q', '-c', 'qemu:///system', 'start', VM], {
      allowFailure: true,
      timeoutMs: 60_000,
    });
    return code !== 0 && /it runs at site west since epoch 3/.test(stderr) ? true : undefined;
  });
  assert.equal(await stateAtWest(), 'running');
});

test('protected again and recovered by force from a site that answers, the old copy is paused before the new one starts', async () => {
  await sites.east.virsh(['undefine', VM, '--nvram', '--managed-save', '--checkpoints-metadata']);
  await eventually('east has no copy', async () => {
    const { items } = await sites.api<{ items: Vm[] }>(sites.east, 'GET', '/vms');
    return items.some(({ name }) => name === VM) ? undefined : true;
  });
  const before = (await sites.replica(VM))!;
  const [newest] = await sites.points(before.id);
  const { state, epoch } = await sites.protect(VM, 5000);
  assert.deepEqual([state, epoch], ['active', 3]);
  await sites.pointAfter(VM, newest!.sequence);
  await assert.rejects(cli('east', 'recover', VM), /running at site west/);
  assert.equal(await stateAtWest(), 'running', 'what was refused has changed nothing');
  const view = JSON.parse(await cli('east', 'recover', VM, '--force', '--json')) as RecoveryView;
  assert.equal(view.state, 'done');
  const [, stop, open] = view.steps;
  assert.match(stop?.details[0]?.name ?? '', /copy at site west yields: .* it is paused/);
  assert.equal(await stateAtWest(), 'paused');
  const copy = (await fenceAt('west')).copies[0];
  assert(copy!.yielded_ms! <= open!.started_ms, 'it had yielded when the view was opened');
});
