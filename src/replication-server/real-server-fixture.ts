/** A replication server in a process of its own, for tests: started, killed and started again on the same directory. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { ServerOrders } from '#/control/orders.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { createAuthority } from '#/wire/certificate-fixture.ts';
import { openSession } from '#/wire/client-session.ts';
import { connect } from '#/wire/tls-client.ts';
import type { PeerIdentity } from '#/wire/transport.ts';

export const DISK = { key: 'vda', bytes: 512 * 4096 };
export const VM = { uuid: '11111111-2222-4333-8444-555555555555', name: 'ledger' };
/** The moments of tests are of 1970, and compaction would merge their points away whenever it comes by. */
const FOR_EVER_MS = 10_000_000_000_000;
const SAID_MS = 120_000;
const SERVER: PeerIdentity = { siteId: 'east', role: 'replication-server', id: 'server-1' };
const west = await createAuthority('west');
const east = await createAuthority('east');
const TRUST = [west, east].map(({ siteId, caPem }) => ({
  site_id: siteId,
  site_name: siteId,
  ca_pem: caPem,
}));

export class RealServer {
  readonly directory: string;
  port = 0;
  /** Words before the command that starts it, such as nsenter's. */
  enter: readonly string[] = [];
  #child: ChildProcess | undefined;
  readonly lines: Record<string, unknown>[] = [];

  constructor(directory: string) {
    this.directory = directory;
  }

  /** A server that is yet to join the site of a manager. */
  static async joining(manager: { host: string; port: number }, token: string): Promise<RealServer> {
    const server = new RealServer(await mkdtemp(join(tmpdir(), 'antipode-server-')));
    const tokenFile = join(server.directory, 'token');
    await writeFile(tokenFile, `${token}\n`);
    await server.#configure(manager, { join_token_file: tokenFile });
    return server;
  }

  /** A server that has joined a site whose manager is away: it goes on by what is on its disk. */
  static async prepare(orders: Partial<ServerOrders>): Promise<RealServer> {
    const server = new RealServer(await mkdtemp(join(tmpdir(), 'antipode-server-')));
    const data = join(server.directory, 'data');
    await mkdir(data);
    const own = await east.issueFor(SERVER);
    const membership = {
      id: SERVER.id,
      site_id: 'east',
      certificate_pem: own.certificatePem,
      private_key_pem: own.privateKeyPem,
      ca_pem: east.caPem,
      trust: TRUST,
    };
    await writeFile(join(data, 'membership.json'), JSON.stringify(membership));
    await server.order(orders);
    await server.#configure({ host: '127.0.0.1', port: await unusedPort() });
    return server;
  }

  async #configure(manager: { host: string; port: number }, more: object = {}): Promise<void> {
    const config = {
      data_directory: join(this.directory, 'data'),
      store_directory: join(this.directory, 'store'),
      run_directory: join(this.directory, 'run'),
      listen: { host: '127.0.0.1', port: 0 },
      advertised_host: '127.0.0.1',
      manager_url: `https://${manager.host}:${manager.port}`,
      ...more,
    };
    await writeFile(join(this.directory, 'config.json'), JSON.stringify(config));
  }

  /** Puts orders on the disk of a server that is not running. */
  async order(orders: Partial<ServerOrders>): Promise<void> {
    const whole: ServerOrders = {
      revision: 1,
      site_id: 'east',
      trust: TRUST,
      replicas: [replicaOrder()],
      tasks: [],
      ...orders,
    };
    await writeFile(join(this.directory, 'data', 'orders.json'), JSON.stringify(whole));
  }

  async start(): Promise<void> {
    this.lines.length = 0;
    const main = join(import.meta.dirname, 'main.ts');
    const command = [...this.enter, process.execPath, main, '--config', join(this.directory, 'config.json')];
    const child = spawn(command[0]!, command.slice(1), { stdio: ['ignore', 'inherit', 'pipe'] });
    this.#child = child;
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.lines.push(JSON.parse(line) as Record<string, unknown>);
      child.emit('said');
    });
    const listening = await this.said('server.listening');
    this.port = listening['port'] as number;
  }

  /** Waits for a line of the log. */
  async said(event: string): Promise<Record<string, unknown>> {
    const child = this.#child!;
    const limit = new AbortController();
    const timer = setTimeout(() => limit.abort(), SAID_MS);
    try {
      for (;;) {
        const at = this.lines.findIndex((line) => line['event'] === event);
        if (at >= 0) return this.lines.splice(at, 1)[0]!;
        const isOver = child.exitCode !== null || limit.signal.aborted;
        if (isOver) assert.fail(`no ${event}: ${JSON.stringify(this.lines)}`);
        await Promise.race([once(child, 'said'), once(child, 'exit'), once(limit.signal, 'abort')]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const child = this.#child!;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'close');
      child.kill(signal);
      await exited;
    }
    return child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child !== undefined) await this.stop('SIGKILL');
    await rm(this.directory, { recursive: true, force: true });
  }

  async open(options: { agent?: string; site?: 'west' | 'east'; epoch?: number } = {}) {
    const authority = options.site === 'east' ? east : west;
    const siteId = options.site ?? 'west';
    const credentials = await authority.issueFor({ siteId, role: 'agent', id: options.agent ?? 'agent-1' });
    const transport = await connect({
      host: '127.0.0.1',
      port: this.port,
      peer: SERVER,
      authorityPem: east.caPem,
      credentials,
    });
    const open = { replicaId: 'replica-1', vm: VM, epoch: options.epoch ?? 1, disks: [DISK] };
    return await openSession(transport, open, { clock: systemClock });
  }
}

export function replicaOrder(epoch = 1): ServerOrders['replicas'][number] {
  return {
    replica_id: 'replica-1',
    vm_uuid: VM.uuid,
    vm_name: VM.name,
    source_site_id: 'west',
    epoch,
    retention: { keep_all_ms: FOR_EVER_MS, tiers: [] },
  };
}

async function unusedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}
