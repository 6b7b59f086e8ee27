/** A manager that has lost its database, on real sites: rebuilt with the other site dead, it recovers. */
import assert from 'node:assert/strict';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RebuildView } from '#/api/rebuild.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { run } from './command.ts';
import { createLedger, serialLog, waitForText } from './ledger-vm.ts';
import { TwoSites } from './two-sites.ts';

const VM = 'ledger';
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  await createLedger(sites.west, { name: VM });
  await sites.protect(VM, 5000);
  await waitForText(serialLog(sites.west, VM), /LEDGER n=5 /, { timeoutMs: 120_000 });
  await sites.pointAfter(VM, 1);
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

async function cli<T>(...args: string[]): Promise<T> {
  const manager = `unix:${sites.east.managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, ...args, '--json', '--manager', manager], {
    timeoutMs: 240_000,
  });
  return JSON.parse(stdout) as T;
}

/** The power goes, the disk of the database with it, and the manager starts on what is left. */
async function loseDatabase(): Promise<void> {
  await sites.lab.kill('east', 'manager');
  const directory = join(sites.east.directory, 'manager');
  for (const name of await readdir(directory)) {
    if (name.startsWith('manager.db')) await rm(join(directory, name));
  }
  await sites.lab.start('east', 'manager');
}

test('while the database is lost, replication goes on by the orders that programs have', async () => {
  const { id } = (await sites.replica(VM))!;
  const [before] = await sites.points(id);
  await loseDatabase();
  assert.equal((await cli<RebuildView>('rebuild')).state, 'waiting');
  const view = await cli<RebuildView>('rebuild', '--apply');
  assert.equal(view.state, 'none');
  assert.deepEqual([view.result?.replicas, view.result?.notes], [1, []]);
  assert.equal((await sites.replica(VM))?.id, id);
  await sites.pointAfter(VM, before!.sequence + 1);
});

test('lost again, with the protected site dead: rebuilt from the replication server alone, and recovered', async () => {
  const { id } = (await sites.replica(VM))!;
  await sites.lab.killSite('west');
  await loseDatabase();
  const view = await cli<RebuildView>('rebuild', '--apply', '--without', 'west');
  assert.equal(view.result?.replicas, 1);
  assert.match(view.result.notes.join('\n'), /west was not asked/);
  assert.equal((await sites.replica(VM))?.id, id);
  const recovery = await cli<RecoveryView>('recover', VM);
  assert.deepEqual([recovery.state, recovery.epoch], ['done', 2]);
  assert.equal((await sites.east.virsh(['domstate', VM])).trim(), 'running');
});
