/** A plan of two real VMs: tried while replication goes on, cleaned up without a trace, and run when west is gone. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RunView } from '#/api/runs.ts';
import { run } from './command.ts';
import { consoleLog, createLedger, serialLog, waitForText } from './ledger-vm.ts';
import { TwoSites } from './two-sites.ts';

const VMS = ['first', 'second'];
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  for (const name of VMS) {
    await createLedger(sites.west, { name });
    await sites.protect(name, 5000);
  }
  for (const name of VMS) {
    await waitForText(serialLog(sites.west, name), /LEDGER n=5 /, { timeoutMs: 120_000 });
    await sites.pointAfter(name, 0);
  }
  await sites.api(sites.east, 'POST', '/groups', { name: 'ledgers', site: 'west', vms: VMS });
  const health = [{ kind: 'serial', text: 'LEDGER found' }];
  const vms = { first: { priority: 1, health }, second: { priority: 2, depends_on: ['first'] } };
  await sites.api(sites.east, 'POST', '/plans', { name: 'all', groups: ['ledgers'], vms });
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

async function plan(...args: string[]): Promise<RunView> {
  const manager = ['--manager', `unix:${sites.east.managerSocket}`, '--json'];
  const { stdout } = await run([process.execPath, CLI, 'plan', ...args, ...manager], { timeoutMs: 240_000 });
  return JSON.parse(stdout) as RunView;
}

/** When each VM gave its sign of life, and when its health was seen. */
function checkOrder(view: RunView): void {
  const [first, second] = VMS.map((name) => view.vms.find((vm) => vm.vm_name === name)!);
  assert(first!.healthy_ms !== null && second!.healthy_ms !== null, 'both are healthy');
  assert(first!.healthy_ms <= second!.up_ms!, 'the second comes up after the first is healthy');
  const began = view.steps!.find((step) => step.key === 'vm2-recover')!.started_ms!;
  assert(began >= first!.healthy_ms, 'and was not begun before');
}

test('a test brings both up in order while replication goes on, and its cleanup leaves nothing', async () => {
  const before = await sites.east.virsh(['list', '--all', '--name']);
  const networks = await sites.east.virsh(['net-list', '--all', '--name']);
  const points = await Promise.all(VMS.map((name) => sites.pointAfter(name, 0)));
  const ready = await plan('test', 'all');
  assert.equal(ready.state, 'ready');
  checkOrder(ready);
  const during = await sites.east.virsh(['list', '--name']);
  assert.deepEqual(
    during
      .split('\n')
      .filter((name) => name !== '')
      .toSorted(),
    ['first-test', 'second-test'],
  );
  for (const [index, name] of VMS.entries()) await sites.pointAfter(name, points[index]!.sequence);
  const cleaned = await plan('cleanup', 'all');
  assert.equal(cleaned.state, 'cleaned');
  assert.equal(await sites.east.virsh(['list', '--all', '--name']), before);
  assert.equal(await sites.east.virsh(['net-list', '--all', '--name']), networks);
  const { stdout } = await sites.east.exec(['ls', sites.east.diskDirectory]);
  assert.equal(stdout.trim(), '', 'no disk is left');
});

test('when west is gone the plan brings both up here, in order, from their newest points', async () => {
  await sites.lab.cut('west', 'east');
  await sites.lab.killSite('west');
  const done = await plan('run', 'all', '--yes');
  assert.equal(done.state, 'done');
  assert.match(done.warnings.join(), /site west does not answer/);
  checkOrder(done);
  for (const name of VMS) {
    const log = await consoleLog(sites.east, name);
    assert(log !== undefined, 'its console is logged');
    const found = await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/);
    const [a, b] = [Number(found[1]), Number(found[2])];
    assert(b === a || b === a - 1, `${name}: A=${a} B=${b}`);
    await waitForText(log, new RegExp(`LEDGER n=${a + 5} `));
  }
});
