/** For tests: a real manager in a temporary directory, and programs of its site that speak the real protocol. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import type { AgentOrders, AgentTask, ClaimOrder, ServerOrders } from '#/control/orders.ts';
import type { FinalPoint } from '#/control/handover-tasks.ts';
import type { KeptByAgent, KeptByServer, ReportReply } from '#/control/kept-orders.ts';
import type { AgentReport, ReplicaReport, ServerReport, TaskReport, VmReport } from '#/control/reports.ts';
import { join, ManagerClient } from '#/control/manager-client.ts';
import { requestJson } from '#/cli/http-json.ts';
import { silentLog } from '#/lib/log.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import { sqliteIn, type ManagerConfig } from './manager-config.ts';
import { Manager } from './manager.ts';

export const GIB = 1024 ** 3;
export const LEDGER_UUID = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001';

/** Orders may wait for another site's manager that is killed and started again, over and over, on a busy machine. */
const PATIENCE_MS = 120_000;

export class TestSite implements AsyncDisposable {
  readonly config: ManagerConfig;
  readonly directory: string;
  manager: Manager;
  #isStopped = false;
  /** Of the manager that ran last. */
  #port = 0;

  private constructor(directory: string, config: ManagerConfig, manager: Manager) {
    this.directory = directory;
    this.config = config;
    this.manager = manager;
  }

  static async start(siteName: string, databaseUrl?: string): Promise<TestSite> {
    const directory = await mkdtemp(joinPath(tmpdir(), 'antipode-manager-'));
    const config: ManagerConfig = Object.freeze({
      dataDirectory: joinPath(directory, 'data'),
      siteName,
      listen: Object.freeze({ host: '127.0.0.1', port: 0 }),
      advertisedHost: '127.0.0.1',
      socketPath: joinPath(directory, 'manager.sock'),
      databaseUrl: databaseUrl ?? sqliteIn(joinPath(directory, 'data')),
      openidConnect: null,
      planCommandsDirectory: null,
      reportFontsDirectory: null,
      alarmTargetsFile: null,
    });
    return new TestSite(directory, config, await startManager(config));
  }

  async stop(): Promise<void> {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#port = this.manager.port;
    await this.manager[Symbol.asyncDispose]();
  }

  /** Stops the manager and starts it again on the same address, as after an upgrade. */
  async restart(change: Partial<ManagerConfig> = {}): Promise<void> {
    await this.stop();
    const listen = { host: '127.0.0.1', port: this.#port };
    this.manager = await startManager({ ...this.config, listen, ...change });
    this.#isStopped = false;
  }

  get address(): { host: string; port: number } {
    return { host: '127.0.0.1', port: this.manager.port };
  }

  /** A call as root on the Unix socket. Throws the Failure that the manager answers. */
  async api<Reply = Record<string, unknown>>(
    method: 'GET' | 'POST' | 'DELETE',
    path: string,
    body?: unknown,
  ): Promise<Reply> {
    const target = { kind: 'unix', socketPath: this.config.socketPath } as const;
    return (await requestJson(target, { method, path: `/api/v1${path}`, body })) as Reply;
  }

  async joinToken(kind: 'agent' | 'replication-server'): Promise<string> {
    return (await this.api<{ token: string }>('POST', '/join-tokens', { kind })).token;
  }

  async agent(name: string): Promise<FakeAgent> {
    const membership = await join(this.address, await this.joinToken('agent'), { kind: 'agent', name });
    return new FakeAgent(new ManagerClient(this.address, membership), name);
  }

  async server(name: string): Promise<FakeServer> {
    const token = await this.joinToken('replication-server');
    const membership = await join(this.address, token, { kind: 'replication-server', name });
    return new FakeServer(new ManagerClient(this.address, membership));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await rm(this.directory, { recursive: true, force: true });
  }
}

function startManager(config: ManagerConfig): Promise<Manager> {
  return Manager.start(config, { clock: systemClock, random: systemRandom, log: silentLog });
}

export async function pairSites(maker: TestSite, user: TestSite): Promise<void> {
  const { token } = await maker.api<{ token: string }>('POST', '/pairing-tokens');
  await user.api('POST', '/pairings', { token });
}

const MACHINE = '3a'.repeat(16);

/** A host whose VMs, replications and tasks are whatever the test says. */
export class FakeAgent {
  readonly client: ManagerClient;
  readonly report: AgentReport;
  orders: AgentOrders | undefined;
  /** What its fence records say. */
  fences: KeptByAgent['fences'] = [];

  constructor(client: ManagerClient, hostname: string) {
    this.client = client;
    this.report = {
      sent_ms: 0,
      host: {
        hostname,
        machine: MACHINE,
        libvirt_version: '9.0.0',
        libvirt_failure: null,
        memory_bytes: 8 * GIB,
        cpu_count: 4,
        networks: ['default'],
        storage_path: '/var/lib/libvirt/images',
        storage_free_bytes: 100 * GIB,
      },
      vms: [],
      replications: [],
      tasks: [],
      events: [],
    };
  }

  send(): Promise<ReportReply> {
    this.report.sent_ms = Date.now();
    return this.client.report(this.report, AbortSignal.timeout(5000));
  }

  /** The orders as they are now. */
  async now(): Promise<AgentOrders> {
    this.orders = undefined;
    return this.poll();
  }

  /** Orders of another revision than the last ones, which are waited for. */
  async poll(stop?: AbortSignal): Promise<AgentOrders> {
    const ask = (signal: AbortSignal): Promise<AgentOrders | undefined> =>
      this.client.agentOrders(this.orders?.revision, signal);
    return (this.orders = await firstOrders(ask, stop));
  }

  /** Waits until another site claims ledger with that epoch, and reports that the copy here has yielded. */
  async yields(epoch: number, vmState: 'paused' | 'shutoff' = 'paused'): Promise<ClaimOrder> {
    for (;;) {
      const order = this.orders?.claims?.find(({ claim }) => claim.epoch === epoch);
      if (order !== undefined) {
        const { claim, vm_name } = order;
        const fence = { vm_uuid: claim.vm_uuid, vm_name, epoch, site_id: claim.site_id };
        const yielded = {
          state: 'yielded',
          vm_state: vmState,
          yielded_ms: Date.now(),
          failure: null,
        } as const;
        this.report.vms = this.report.vms.map((vm) => ({ ...vm, state: vmState }));
        this.report.fences = [{ ...fence, ...yielded }];
        await this.send();
        return order;
      }
      await this.poll();
    }
  }

  /** Waits until the orders hold a task of that kind. */
  async task<Kind extends AgentTask['kind']>(kind: Kind): Promise<Extract<AgentTask, { kind: Kind }>> {
    for (;;) {
      const task = this.orders?.tasks.find((known) => known.kind === kind);
      if (task !== undefined) return task as Extract<AgentTask, { kind: Kind }>;
      await this.poll();
    }
  }

  async finish(report: TaskReport): Promise<void> {
    this.report.tasks = [...this.report.tasks.filter(({ id }) => id !== report.id), report];
    await this.send();
  }
}

/** A manager answers a poll without news after a while, so that it is asked again. */
async function firstOrders<Orders>(
  ask: (signal: AbortSignal) => Promise<Orders | undefined>,
  stop: AbortSignal | undefined,
): Promise<Orders> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const signal = stop === undefined ? patience : AbortSignal.any([stop, patience]);
  for (;;) {
    const orders = await ask(signal);
    if (orders !== undefined) return orders;
  }
}

export class FakeServer {
  readonly client: ManagerClient;
  readonly report: ServerReport;
  orders: ServerOrders | undefined;
  /** What stands beside its replicas. */
  beside: KeptByServer['replicas'] = [];

  constructor(client: ManagerClient) {
    this.client = client;
    this.report = {
      sent_ms: 0,
      endpoint: { host: '192.0.2.10', port: 7481 },
      machine: MACHINE,
      store_path: '/srv/antipode',
      store_free_bytes: 100 * GIB,
      replicas: [],
      tasks: [],
      events: [],
    };
  }

  send(): Promise<ReportReply> {
    this.report.sent_ms = Date.now();
    return this.client.report(this.report, AbortSignal.timeout(5000));
  }

  /** The orders as they are now. */
  async now(): Promise<ServerOrders> {
    this.orders = undefined;
    return this.poll();
  }

  /** Orders of another revision than the last ones, which are waited for. */
  async poll(stop?: AbortSignal): Promise<ServerOrders> {
    const ask = (signal: AbortSignal): Promise<ServerOrders | undefined> =>
      this.client.serverOrders(this.orders?.revision, signal);
    return (this.orders = await firstOrders(ask, stop));
  }

  async task(kind: 'open_view' | 'close_view' | 'delete_replica') {
    for (;;) {
      const task = this.orders?.tasks.find((known) => known.kind === kind);
      if (task !== undefined) return task;
      await this.poll();
    }
  }

  async finish(report: TaskReport): Promise<void> {
    this.report.tasks = [...this.report.tasks.filter(({ id }) => id !== report.id), report];
    await this.send();
  }

  /** Says that the replica holds points of these moments, each acknowledged 100 ms later. */
  async holds(replicaId: string, moments: number[], change: Partial<ReplicaReport> = {}): Promise<void> {
    const replica: ReplicaReport = {
      replica_id: replicaId,
      vm_uuid: LEDGER_UUID,
      vm_name: 'ledger',
      epoch: 1,
      state: moments.length === 0 ? 'first_copy' : 'ready',
      points: moments.map((momentMs, index) => ({
        sequence: index + 1,
        stamp: `stamp-${index + 1}`,
        moment_ms: momentMs,
        acknowledged_ms: momentMs + 100,
        consistency: 'crash',
        delta_bytes: 4096,
      })),
      point_count: moments.length,
      stored_bytes: GIB,
      failure: null,
      ...change,
    };
    this.report.replicas = [...this.report.replicas.filter((one) => one.replica_id !== replicaId), replica];
    await this.send();
  }
}

export function ledgerVm(change: Partial<VmReport> = {}): VmReport {
  return {
    uuid: LEDGER_UUID,
    name: 'ledger',
    state: 'running',
    memory_bytes: GIB,
    vcpu_count: 1,
    recovered_by_task: null,
    disks: [
      { key: 'vda', bytes: GIB, format: 'qcow2', path: '/a.qcow2', refusal: null },
      { key: 'vdb', bytes: GIB, format: 'qcow2', path: '/b.qcow2', refusal: null },
    ],
    networks: ['default'],
    refusals: [],
    ...change,
  };
}

export function doneTask(id: string, result: TaskReport['result'] = null): TaskReport {
  return { id, state: 'done', steps: [], progress: null, result, failure: null };
}

export function failedTask(id: string, message: string): TaskReport {
  const failure = { code: 'libvirt_error', message, hint: null };
  return { id, state: 'failed', steps: [], progress: null, result: null, failure };
}

export const ROOTS = [
  { key: 'vda', root: 'a1'.repeat(16) },
  { key: 'vdb', root: 'b2'.repeat(16) },
];

/** The points that a server tells of a VM that was powered off before the last one. */
export function offPoints(sequence: number, roots = ROOTS): ReplicaReport['points'] {
  const momentMs = Date.now();
  const point = { moment_ms: momentMs, acknowledged_ms: momentMs, consistency: 'off', delta_bytes: 0, roots };
  return [{ ...point, sequence, stamp: `stamp-${sequence}` }];
}

/** What the protected site's agent tells of its last cycle. */
export function finalPoint(sequence: number): FinalPoint {
  return { sequence, stamp: `stamp-${sequence}`, moment_ms: Date.now(), disks: ROOTS };
}

export const VIEW = {
  socket_path: '/run/antipode/view.sock',
  attachments_path: '/run/antipode/attachments',
  sequence: 2,
  disks: [{ key: 'vda', bytes: GIB, export_name: 'vda' }],
  attachments: [],
};

/** West protects ledger to east, with a point at east: where most tests begin. */
export async function twoSites(urls: { west?: string; east?: string } = {}) {
  const west = await TestSite.start('west', urls.west);
  const east = await TestSite.start('east', urls.east);
  await pairSites(east, west);
  const westAgent = await west.agent('west-host');
  westAgent.report.vms = [ledgerVm()];
  await westAgent.send();
  const eastAgent = await east.agent('east-host');
  await eastAgent.send();
  const eastServer = await east.server('east-server');
  await eastServer.send();
  return {
    west,
    east,
    westAgent,
    eastAgent,
    eastServer,
    async [Symbol.asyncDispose]() {
      await west[Symbol.asyncDispose]();
      await east[Symbol.asyncDispose]();
    },
  };
}
