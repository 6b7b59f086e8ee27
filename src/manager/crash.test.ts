import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { requestJson } from '#/cli/http-json.ts';
import { join, ManagerClient } from '#/control/manager-client.ts';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { EventView } from '#/api/events.ts';
import { failureIn } from '#/lib/failure.ts';
import {
  doneTask,
  FakeAgent,
  FakeServer,
  finalPoint,
  ledgerVm,
  offPoints,
  pairSites,
  TestSite,
  VIEW,
} from './site-fixture.ts';
import { sqliteIn } from './manager-config.ts';
import { TestPostgresql } from './store/postgresql-fixture.ts';

/** Between two looks at a process that has nothing to tell by itself. */
const PAUSE_MS = 50;
const MAIN = new URL('main.ts', import.meta.url).pathname;

let cluster: TestPostgresql;
before(async () => {
  cluster = await TestPostgresql.start();
});
after(() => cluster[Symbol.asyncDispose]());

/** A manager as its own process, to be killed. */
class ManagerProcess implements AsyncDisposable {
  readonly directory: string;
  readonly #databaseUrl: string;
  #child: ChildProcess | undefined;
  #port = 0;

  private constructor(directory: string, databaseUrl: string) {
    this.directory = directory;
    this.#databaseUrl = databaseUrl;
  }

  static async start(databaseUrl?: string): Promise<ManagerProcess> {
    const directory = await mkdtemp(joinPath(tmpdir(), 'antipode-crash-'));
    const manager = new ManagerProcess(directory, databaseUrl ?? sqliteIn(joinPath(directory, 'data')));
    await manager.run();
    return manager;
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.#port };
  }

  async run(): Promise<void> {
    const path = joinPath(this.directory, 'manager.json');
    const config = {
      data_directory: joinPath(this.directory, 'data'),
      site_name: 'east',
      listen: this.address,
      advertised_host: '127.0.0.1',
      socket_path: joinPath(this.directory, 'manager.sock'),
      database_url: this.#databaseUrl,
    };
    await writeFile(path, JSON.stringify(config));
    const child = spawn(process.execPath, [MAIN, '--config', path], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.#child = child;
    const said: string[] = [];
    for await (const line of createInterface({ input: child.stderr })) {
      said.push(line);
      const port = /"event":"manager.ready","address":"127.0.0.1:(\d+)"/.exec(line)?.[1];
      if (port === undefined) continue;
      this.#port = Number(port);
      child.stderr.resume();
      return;
    }
    throw new Error(`the manager did not start: ${said.join('\n')}`);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  }

  async api<Reply>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<Reply> {
    const target = { kind: 'unix', socketPath: joinPath(this.directory, 'manager.sock') } as const;
    return (await requestJson(target, { method, path: `/api/v1${path}`, body })) as Reply;
  }

  async client(kind: 'agent' | 'replication-server'): Promise<ManagerClient> {
    const { token } = await this.api<{ token: string }>('POST', '/join-tokens', { kind });
    return new ManagerClient(this.address, await join(this.address, token, { kind, name: kind }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await rm(this.directory, { recursive: true, force: true });
  }
}

const RESULTS: Record<string, Record<string, unknown>> = {
  open_view: VIEW,
  shut_down: { was_active: true, autostart: true, off_ms: 1 },
  final_cycle: finalPoint(2),
};

/** Does every task it is ordered, at once, and counts them; goes on by itself while its manager is dead. */
async function work(program: FakeAgent | FakeServer, done: Set<string>, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const orders = await program.now();
      for (const task of orders.tasks) {
        // The report of a recovery that is over asks for one, at any time after.
        if (task.kind !== 'picture') done.add(`${task.kind} ${task.id}`);
        await program.finish(doneTask(task.id, RESULTS[task.kind] ?? null));
      }
      await program.send();
      await program.poll(signal);
    } catch (error) {
      // A manager that is being killed cuts its replies short as well.
      if (failureIn(error) === undefined) throw error;
      await setTimeout(PAUSE_MS, undefined, { signal }).catch(() => {});
    }
  }
}

/** West's part of a migration, whose manager is not killed: each of its tasks is ordered once. */
async function handOver(agent: FakeAgent, ordered: Set<string>): Promise<void> {
  for (const kind of ['shut_down', 'final_cycle'] as const) {
    const { id } = await agent.task(kind);
    assert(!ordered.has(kind));
    ordered.add(kind);
    await agent.finish(doneTask(id, RESULTS[kind]));
  }
  await agent.yields(2, 'shutoff');
}

/** Resolves with the first event of the recovery that is newer than `after`. */
async function nextRecord(manager: ManagerProcess, after: number): Promise<EventView | undefined> {
  for (;;) {
    const { items } = await manager.api<{ items: EventView[] }>('GET', `/events?after=${after}&limit=1000`);
    const record = items.find((event) => event.kind.startsWith('recovery.'));
    if (record !== undefined) return record;
    const jobs = await manager.api<{ items: RecoveryView[] }>('GET', '/recoveries');
    if (jobs.items[0]?.state === 'done') return undefined;
    await setTimeout(PAUSE_MS);
  }
}

const RECOVERY = ['raise_epoch', 'stop_source', 'open_view', 'recover', 'close_view'];

for (const [kind, every, purpose] of [
  ['SQLite', 1, 'recovery'],
  ['PostgreSQL', 3, 'recovery'],
  ['SQLite', 1, 'migration'],
] as const) {
  const when = every === 1 ? 'every record' : `every ${every}rd record`;
  test(`a manager on ${kind} that is killed after ${when} of a ${purpose} goes on with it, each step once`, async () => {
    const url = kind === 'SQLite' ? undefined : await cluster.database();
    await using west = await TestSite.start('west');
    await using east = await ManagerProcess.start(url);
    const { token } = await east.api<{ token: string }>('POST', '/pairing-tokens');
    await west.api('POST', '/pairings', { token });
    const westAgent = await west.agent('west-host');
    westAgent.report.vms = [ledgerVm()];
    await westAgent.send();
    const agent = new FakeAgent(await east.client('agent'), 'east-host');
    const server = new FakeServer(await east.client('replication-server'));
    await agent.send();
    await server.send();
    const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
    const protection = await west.api<ProtectionView>('POST', '/protections', request);
    await server.holds(protection.replica_id!, [Date.now() - 2000, Date.now() - 1000]);

    const stop = new AbortController();
    const done = new Set<string>();
    const working = [agent, server].map((program) => work(program, done, stop.signal));
    const isMigration = purpose === 'migration';
    const how = isMigration ? { purpose } : { force: true };
    const job = await east.api<RecoveryView>('POST', '/recoveries', { vm: 'ledger', ...how });
    const shutDown = new Set<string>();
    const yielding = isMigration ? handOver(westAgent, shutDown) : westAgent.yields(2);
    if (isMigration) await server.holds(protection.replica_id!, [], { points: offPoints(2), point_count: 1 });
    let killCount = 0;
    let recordCount = 0;
    for (let sequence = 0; ;) {
      const record = await nextRecord(east, sequence);
      if (record === undefined) break;
      sequence = record.sequence;
      if (++recordCount % every !== 0) continue;
      await east.kill();
      killCount++;
      await east.run();
    }
    stop.abort();
    await Promise.all(working);
    await yielding;
    const end = await east.api<RecoveryView>('GET', `/recoveries/${job.id}`);
    assert.deepEqual(
      end.steps.map((step) => [step.name, step.state]),
      [...(isMigration ? ['shut_down_source', 'last_cycle'] : []), ...RECOVERY].map((name) => [name, 'done']),
    );
    assert.deepEqual([...shutDown], isMigration ? ['shut_down', 'final_cycle'] : []);
    if (isMigration) assert.equal(end.point, 2, 'of the last cycle');
    assert.deepEqual(
      [...done].toSorted(),
      ['close_view', 'open_view', 'recover'].map(
        (name) => `${name} ${job.id}-${name.replace('_view', '').replace('open', 'view')}`,
      ),
    );
    const replicas = await east.api<{ items: { epoch: number }[] }>('GET', '/replicas');
    assert.equal(replicas.items[0]?.epoch, 2, 'the epoch is raised once');
    // started, five steps begun, five done, and the end; fewer only when a kill came after two of them.
    assert(killCount >= 5 / every, `killed ${killCount} times`);
  });
}

test('sites pair, protect and recover the same with PostgreSQL at both', async () => {
  await using west = await TestSite.start('west', await cluster.database());
  await using east = await TestSite.start('east', await cluster.database());
  await pairSites(east, west);
  const agent = await west.agent('west-host');
  agent.report.vms = [ledgerVm()];
  await agent.send();
  const server = await east.server('server');
  await server.send();
  const tries = await Promise.allSettled(
    [1, 2, 3].map(() => west.api('POST', '/protections', { vm: 'ledger', site: 'east', rpo_ms: 5000 })),
  );
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1);
  await west.restart();
  assert.equal((await agent.now()).protections.length, 1);
  assert.equal((await server.now()).replicas.length, 1);
});

test('a second manager on the same directory is refused while the first runs, and not after it was killed', async () => {
  await using first = await ManagerProcess.start();
  const path = joinPath(first.directory, 'manager.json');
  const second = spawn(process.execPath, [MAIN, '--config', path], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  second.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const [code] = (await once(second, 'exit')) as [number];
  assert.equal(code, 4);
  assert.match(said, /a manager already listens on/);
  await first.kill();
  await first.run();
});
