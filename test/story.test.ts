/** The main job, end to end, on real sites: what a recovery loses, and what a replica is worth after any kill. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RecoveryView } from '#/api/recoveries.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { run } from '#lab/command.ts';
import { readLedgerFiles } from '#lab/ledger-reader.ts';
import { consoleLog, createLedger, ledgerDiskPaths, serialLog, waitForText } from '#lab/ledger-vm.ts';
import { eventually, TwoSites } from '#lab/two-sites.ts';

const VM = 'ledger';
const RPO_MS = 5000;
/** Rounds of killing something at a random moment; the sweeps beside the parts try every moment of theirs. */
const KILLS = 8;
const CLI = join(import.meta.dirname, '..', 'src', 'cli', 'main.ts');

let sites: TwoSites;
before(async () => {
  sites = await TwoSites.up(() => undefined);
  await createLedger(sites.west, { name: VM });
  await sites.protect(VM, RPO_MS);
  await waitForText(serialLog(sites.west, VM), /LEDGER n=20 /, { timeoutMs: 120_000 });
  await sites.pointAfter(VM, 0);
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

test('after kills of anything at random moments, the newest point is the source, byte for byte', async (t) => {
  const seed = Number(process.env['ANTIPODE_SEED'] ?? Date.now() % 1_000_000);
  t.diagnostic(`seed ${seed}; again with ANTIPODE_SEED=${seed}`);
  const random = new SeededRandom(seed);
  for (let round = 0; round < KILLS; round++) {
    const { sequence } = await newestPoint();
    const victim = VICTIMS[integerBelow(random, VICTIMS.length)]!;
    // Part of the way through a cycle, or between two.
    await waitForText(
      serialLog(sites.west, VM),
      new RegExp(`LEDGER n=${(await lastRecord()) + 1 + integerBelow(random, 30)} `),
    );
    t.diagnostic(`round ${round}: ${victim.name} after point ${sequence}`);
    await victim.strike();
    await sites.pointAfter(VM, (await newestPoint()).sequence);
  }
  await compareWithSource();
});

test('the disaster: cut the link, kill the site, recover; at most the RPO is lost, and B = A or A - 1', async () => {
  const log = serialLog(sites.west, VM);
  await waitForText(log, new RegExp(`LEDGER n=${(await lastRecord()) + 60} `));
  await sites.lab.cut('west', 'east');
  await sites.lab.killSite('west');
  const written = await lastRecord();
  const manager = `unix:${sites.east.managerSocket}`;
  const { stdout } = await run([process.execPath, CLI, 'recover', VM, '--manager', manager, '--json'], {
    timeoutMs: 240_000,
  });
  const view = JSON.parse(stdout) as RecoveryView;
  assert.equal(view.state, 'done');
  const recovered = await consoleLog(sites.east, VM);
  assert(recovered !== undefined, 'the recovered VM runs, and its console is logged');
  const found = await waitForText(recovered, /LEDGER found A=(\d+) B=(\d+) good/);
  const [a, b] = [Number(found[1]), Number(found[2])];
  assert(b === a || b === a - 1, `A=${a} B=${b}`);
  const times = await recordTimes(log);
  const lostMs = times.get(written)! - (times.get(b) ?? 0);
  assert(lostMs <= RPO_MS, `records ${b + 1} to ${written} are lost, ${lostMs} ms of them`);
  await waitForText(recovered, new RegExp(`LEDGER n=${a + 5} `));
});

type Victim = { name: string; strike: () => Promise<void> };

const VICTIMS: Victim[] = [
  ...[
    ['west', 'agent'],
    ['east', 'replication-server'],
    ['west', 'manager'],
    ['east', 'manager'],
    ['west', 'libvirtd'],
  ].map(([site, program]) => ({
    name: `${program} at ${site}`,
    strike: async () => {
      await sites.lab.kill(site!, program!);
      await sites.lab.start(site!, program!);
    },
  })),
  {
    name: 'QEMU',
    strike: async () => {
      await sites.lab.kill('west', `vm/${VM}`);
      await eventually('the VM counts as off', async () => {
        const states = await sites.west.virsh(['domstate', VM]);
        return states.includes('shut off') || states.includes('crashed') ? true : undefined;
      });
      await sites.west.virsh(['start', VM], { timeoutMs: 60_000 });
    },
  },
  {
    name: 'the link',
    strike: async () => {
      await sites.lab.cut('west', 'east');
      await waitForText(serialLog(sites.west, VM), new RegExp(`LEDGER n=${(await lastRecord()) + 20} `));
      await sites.lab.restore('west', 'east');
    },
  },
];

async function newestPoint(): Promise<{ sequence: number; moment_ms: number }> {
  const replica = await sites.replica(VM);
  const [newest] = replica === undefined ? [] : await sites.points(replica.id);
  assert(newest, 'the replica has a point');
  return newest;
}

/** A paused guest writes nothing, and QEMU flushed what it held when it paused: now the images are the source. */
async function compareWithSource(): Promise<void> {
  await sites.west.virsh(['suspend', VM]);
  const pausedMs = Date.now();
  const replica = await sites.replica(VM);
  const point = await eventually('a point of the paused guest', async () => {
    const newest = await newestPoint();
    return newest.moment_ms > pausedMs ? newest : undefined;
  });
  const directory = await mkdtemp(join(tmpdir(), 'antipode-story-'));
  try {
    const store = join(sites.east.directory, 'replicas', replica!.id);
    const target = join(directory, 'export');
    const options = ['--point', String(point.sequence), '--format', 'raw', '--json'];
    await run([process.execPath, CLI, 'replica', 'export', store, target, ...options], {
      timeoutMs: 120_000,
    });
    for (const [index, source] of ledgerDiskPaths(sites.west, VM).entries()) {
      const key = ['vda', 'vdb'][index]!;
      const raw = join(directory, `${key}.source`);
      await run(['qemu-img', 'convert', '-U', '-f', 'qcow2', '-O', 'raw', source, raw], {
        timeoutMs: 120_000,
      });
      await run(['cmp', raw, join(target, `${key}.raw`)], { timeoutMs: 60_000 });
    }
    const found = await readLedgerFiles(join(target, 'vda.raw'), join(target, 'vdb.raw'));
    assert.equal(found.verdict, 'good');
  } finally {
    await rm(directory, { recursive: true, force: true });
    await sites.west.virsh(['resume', VM]);
  }
}

async function recordTimes(log: string): Promise<Map<number, number>> {
  const said = await readFile(log, 'latin1');
  const times = new Map<number, number>();
  for (const [, number, time] of said.matchAll(/LEDGER n=(\d+) t=(\d+)/g))
    times.set(Number(number), Number(time));
  return times;
}

async function lastRecord(): Promise<number> {
  const times = await recordTimes(serialLog(sites.west, VM));
  return Math.max(0, ...times.keys());
}
