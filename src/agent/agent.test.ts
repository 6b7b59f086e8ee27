/**
 * The agent and the replication server as programs, their managers away: a real VM is replicated by the orders on
 * disk, through kills of each of them. The tests build on each other, in order.
 */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { systemClock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { openReplica } from '#/replica/stored-replica.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { createAuthority } from '#/wire/certificate-fixture.ts';
import type { PeerIdentity } from '#/wire/transport.ts';
import { makeEchoGuest, type EchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';

const REPLICA_ID = 'replica-1';
const KEYS = ['vda', 'vdb'];
/** A machine whose processors are taken away for half of the time needs minutes for a first copy. */
const WAIT_MS = 120_000;

type Line = Record<string, unknown>;

/** A program of ours in a process of its own, with its log. */
class Program {
  readonly #main: string;
  readonly #config: string;
  #lines: Line[] = [];
  #child: ChildProcess | undefined;
  #heard: () => void = () => undefined;

  constructor(main: string, config: string) {
    this.#main = main;
    this.#config = config;
  }

  start(): void {
    this.#lines = [];
    const child = spawn(process.execPath, [this.#main, '--config', this.#config], {
      stdio: ['ignore', 'inherit', 'pipe'],
    });
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.#lines.push(JSON.parse(line) as Line);
      this.#heard();
    });
    child.once('exit', () => this.#heard());
    this.#child = child;
  }

  /** The next line of the log that is this event and was not taken before. */
  async said(event: string): Promise<Line> {
    const child = this.#child!;
    const timeout = setTimeout(() => this.#heard(), WAIT_MS);
    const deadline = performance.now() + WAIT_MS;
    for (;;) {
      const at = this.#lines.findIndex((line) => line['event'] === event);
      const heard = new Promise<void>((resolve) => (this.#heard = resolve));
      if (at >= 0) {
        clearTimeout(timeout);
        return this.#lines.splice(at, 1)[0]!;
      }
      const isOver = child.exitCode !== null || performance.now() >= deadline;
      assert(!isOver, `no ${event}: ${JSON.stringify(this.#lines)}`);
      await heard;
    }
  }

  has(event: string): boolean {
    return this.#lines.some((line) => line['event'] === event);
  }

  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, 'close');
      child.kill(signal);
      await exited;
    }
    return child.exitCode;
  }
}

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let guest: EchoGuest;
let domain: Domain;
let agent: Program;
let server: Program;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  guest = await makeEchoGuest(daemon, 'web');
  domain = await (await libvirt.defineDomain(guest.xml)).start();
  const port = await unusedPort();
  await prepare(port);
  const main = (name: string): string => `${import.meta.dirname}/../${name}/main.ts`;
  server = new Program(main('replication-server'), `${daemon.directory}/server.json`);
  agent = new Program(main('agent'), `${daemon.directory}/agent.json`);
  server.start();
  await server.said('server.listening');
  agent.start();
});

after(async () => {
  await agent.stop('SIGKILL');
  await server.stop('SIGKILL');
  await libvirt[Symbol.asyncDispose]();
  await daemon[Symbol.asyncDispose]();
});

/** Memberships, orders and configurations, as managers and administrators would have left them. */
async function prepare(port: number): Promise<void> {
  const west = await createAuthority('west');
  const east = await createAuthority('east');
  const trust = [west, east].map(({ siteId, caPem }) => ({
    site_id: siteId,
    site_name: siteId,
    ca_pem: caPem,
  }));
  const managerUrl = `https://127.0.0.1:${await unusedPort()}`;
  const membership = async (authority: typeof west, identity: PeerIdentity): Promise<unknown> => {
    const own = await authority.issueFor(identity);
    return {
      id: identity.id,
      site_id: identity.siteId,
      certificate_pem: own.certificatePem,
      private_key_pem: own.privateKeyPem,
      ca_pem: authority.caPem,
      trust,
    };
  };
  const serverIdentity: PeerIdentity = { siteId: 'east', role: 'replication-server', id: 'server-1' };
  const vm = { vm_uuid: domain.uuid, vm_name: domain.name };
  const retention = { keep_all_ms: 3_600_000, tiers: [] };
  const replica = { replica_id: REPLICA_ID, ...vm, source_site_id: 'west', epoch: 1, retention };
  const protection = {
    replica_id: REPLICA_ID,
    ...vm,
    disks: [],
    rpo_ms: 2000,
    epoch: 1,
    added_disks: 'report',
    scratch_bytes: 2 ** 30,
    server: { site_id: 'east', server_id: 'server-1', host: '127.0.0.1', port },
  };
  const files: Record<string, unknown> = {
    'server/membership.json': await membership(east, serverIdentity),
    'server/orders.json': { revision: 1, site_id: 'east', trust, replicas: [replica], tasks: [] },
    'agent/membership.json': await membership(west, { siteId: 'west', role: 'agent', id: 'agent-1' }),
    'agent/orders.json': { revision: 1, site_id: 'west', trust, protections: [protection], tasks: [] },
    'server.json': {
      data_directory: `${daemon.directory}/server`,
      store_directory: `${daemon.directory}/store`,
      run_directory: `${daemon.directory}/run-server`,
      listen: { host: '127.0.0.1', port },
      advertised_host: '127.0.0.1',
      manager_url: managerUrl,
    },
    'agent.json': {
      data_directory: `${daemon.directory}/agent`,
      libvirt_socket: daemon.socketPath,
      storage_directory: `${daemon.directory}/disks`,
      scratch_directory: `${daemon.directory}/scratch`,
      run_directory: `${daemon.directory}/run`,
      tpm_directory: `${daemon.directory}/swtpm`,
      hook_directory: `${daemon.directory}/../etc/hooks`,
      manager_url: managerUrl,
    },
  };
  for (const name of ['server', 'agent']) await mkdir(`${daemon.directory}/${name}`);
  for (const [path, value] of Object.entries(files)) {
    await writeFile(`${daemon.directory}/${path}`, JSON.stringify(value));
  }
}

async function unusedPort(): Promise<number> {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address() as { port: number };
  listener.close();
  return port;
}

async function write(key: string, fill: number, where: string): Promise<void> {
  const device = `/machine/peripheral/virtio-disk${KEYS.indexOf(key)}/virtio-backend`;
  for (const command of [`write -P ${fill} ${where}`, 'flush']) {
    await domain.monitorCommand(`qemu-io -d ${device} "${command}"`, ['hmp']);
  }
}

/** Two points on, the first of the two having begun after now or just before it. */
async function nextPoint(): Promise<void> {
  await server.said('point.committed');
  await server.said('point.committed');
}

test('a VM is replicated by the orders on disk alone', async () => {
  await write('vdb', 7, '1M 2M');
  await agent.said('replication.first_copy_ended');
  await nextPoint();
});

test('an agent that is killed goes on from its tracking, and nothing is compared again', async () => {
  for (let round = 0; round < 3; round++) {
    await write('vda', 20 + round, '2M 64k');
    await agent.stop('SIGKILL');
    agent.start();
    await agent.said('libvirt.connected');
    await nextPoint();
    assert(!agent.has('replication.compared'), 'everything was compared');
  }
});

test('a replication server that is killed is found again', async () => {
  await server.stop('SIGKILL');
  await write('vda', 30, '4M 64k');
  server.start();
  await server.said('server.listening');
  await nextPoint();
});

test('libvirt is found again, and a killed QEMU is compared', async () => {
  await daemon.killDaemon();
  await agent.said('libvirt.lost');
  await daemon.start();
  await agent.said('libvirt.connected');
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  domain = await libvirt.lookupDomainByUuid(domain.uuid);
  await nextPoint();
  await daemon.killQemu('web');
  while ((await domain.getState()).state !== 'shutoff') await systemClock.sleep(10);
  domain = await domain.start().catch(async (error: unknown) => {
    throw new Error(await daemon.run('tail', ['/var/log/libvirt/qemu/web.log']), { cause: error });
  });
  await agent.said('replication.compared');
});

test('the newest point equals the VM, and the agent leaves at SIGTERM without a job behind it', async () => {
  await write('vdb', 40, '5M 128k');
  await nextPoint();
  assert.equal(await agent.stop('SIGTERM'), 0);
  await assert.rejects(domain.backup.getXml());
  assert.equal(await server.stop('SIGTERM'), 0);
  const files = new NodeFileSystem(`${daemon.directory}/store`);
  await using replica = await openReplica({ files, clock: systemClock, directory: REPLICA_ID });
  await using view = await replica.openView(replica.head()!.sequence);
  for (const [index, key] of KEYS.entries()) {
    const raw = `${daemon.directory}/${key}.raw`;
    await daemon.run('qemu-img', ['convert', '-U', '-O', 'raw', guest.imagePath(key), raw]);
    const bytes = new Uint8Array(view.disks[index]!.bytes);
    await view.disks[index]!.read(0, bytes);
    assert.equal(Buffer.compare(await readFile(raw), bytes), 0, `${key} differs`);
  }
});
