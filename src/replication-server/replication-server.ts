/**
 * The replication server's parts, put together, from its start to its end.
 *
 * The order at start is the invariant: what is on disk is opened and views are pinned again before sessions are
 * accepted and before compaction begins. At the end sessions suspend their points before the replicas are closed.
 * Being killed at any moment instead of stopped costs nothing but the time to open.
 */
import assert from 'node:assert/strict';
import { hostname } from 'node:os';
import { ControlClient } from '#/control/control-client.ts';
import { EventBuffer } from '#/control/event-buffer.ts';
import { ManagerClient, type Membership } from '#/control/manager-client.ts';
import { joinedMembership } from '#/control/member-file.ts';
import { ServerOrders } from '#/control/orders.ts';
import { lockDirectory } from '#/lib/directory-lock.ts';
import type { Failure } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { RecoveryPoint } from '#/replica/replica.ts';
import { serveSession } from '#/wire/server-session.ts';
import { SessionRegistry } from '#/wire/session-registry.ts';
import { listen, type TlsIdentity, type TlsListener } from '#/wire/tls-server.ts';
import type { Transport } from '#/wire/transport.ts';
import { Compactor } from './compactor.ts';
import { OrderBook } from './order-book.ts';
import { OrderKeeper } from './order-keeper.ts';
import { ReplicaDirectory } from './replica-directory.ts';
import { replicaOpener } from './replica-opener.ts';
import { ReplicaStore } from './replica-store.ts';
import { Reporter } from './reporter.ts';
import type { ServerConfig } from './server-config.ts';
import { ReplicaHost } from './session-host.ts';
import { TaskRunner } from './task-runner.ts';
import { ViewKeeper } from './view-keeper.ts';

/** Runs until the signal aborts. Throws what keeps it from starting, and what only a bug can cause. */
export async function runServer(config: ServerConfig, log: Log, signal: AbortSignal): Promise<void> {
  await using _dataLock = await lockDirectory(config.dataDirectory);
  await using _storeLock = await lockDirectory(config.storeDirectory);
  await using store = new ReplicaStore(
    new ReplicaDirectory(config.storeDirectory),
    replicaOpener(config.storeDirectory, clock),
  );
  await store.load();
  for (const [replica, entry] of store.entries()) {
    if ('failure' in entry) log.error('replica.broken', { replica, ...failureFields(entry.failure) });
  }
  const membership = await joinedMembership(
    {
      kind: 'replication-server',
      name: hostname(),
      dataDirectory: config.dataDirectory,
      manager: config.managerUrl,
      tokenFile: config.joinTokenFile,
      clock,
      log,
    },
    signal,
  );
  await using views = new ViewKeeper(store, config);
  for (const { taskId, failure } of await views.load()) {
    log.error('view.lost', { task: taskId, ...failureFields(failure) });
  }
  const server = new Server(config, { store, views, membership, log });
  await server.run(signal);
}

type ServerParts = { store: ReplicaStore; views: ViewKeeper; membership: Membership; log: Log };

class Server {
  readonly #config: ServerConfig;
  readonly #log: Log;
  readonly #store: ReplicaStore;
  readonly #orders = new OrderBook();
  readonly #keeper: OrderKeeper;
  readonly #events: EventBuffer;
  readonly #host: ReplicaHost;
  readonly #tasks: TaskRunner;
  readonly #control: ControlClient<ServerOrders>;
  /** Rejects with what only a bug can cause, wherever it happens. */
  readonly #broken = Promise.withResolvers<never>();
  #membership: Membership;
  /** Said once, until a point finds room again. */
  #isFull = false;
  #listener: TlsListener | undefined;
  #reporter: Reporter | undefined;

  constructor(config: ServerConfig, parts: ServerParts) {
    const { store, views, log } = parts;
    this.#config = config;
    this.#log = log;
    this.#store = store;
    this.#membership = parts.membership;
    this.#keeper = new OrderKeeper(config.storeDirectory, log);
    const changed = (): void => this.#control.changed();
    this.#events = new EventBuffer(clock, systemRandom, changed);
    this.#host = new ReplicaHost({
      orders: this.#orders,
      store,
      sessions: new SessionRegistry(clock),
      committed: (replicaId, point) => this.#committed(replicaId, point),
    });
    const ended = (): void => this.#control.changedAndAwaited();
    this.#tasks = new TaskRunner({ store, views, host: this.#host, clock, log, changed, ended });
    this.#control = this.#createControl();
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#control.takeKeptOrders();
    const { host, port } = this.#config.listen;
    const sessions = new AbortController();
    const listener = await listen({
      host,
      port,
      identity: this.#identity(),
      role: 'agent',
      accept: (transport) => this.#serve(transport, sessions.signal),
      refused: (failure, remote) => this.#refused(failure, remote),
    });
    this.#listener = listener;
    this.#log.info('server.listening', {
      host,
      port: listener.address.port,
      store: this.#config.storeDirectory,
    });
    const upkeep = new AbortController();
    const store = this.#store;
    this.#reporter = new Reporter({
      store,
      orders: this.#orders,
      tasks: this.#tasks,
      events: this.#events,
      clock,
      endpoint: { host: this.#config.advertisedHost, port: listener.address.port },
    });
    const compactor = new Compactor({ store, orders: this.#orders, clock, log: this.#log });
    const work = Promise.all([this.#control.run(upkeep.signal), compactor.run(upkeep.signal)]);
    work.catch((error: unknown) => this.#broken.reject(error));
    try {
      await Promise.race([aborted(signal), this.#broken.promise]);
    } finally {
      upkeep.abort();
      sessions.abort();
      await listener[Symbol.asyncDispose]();
      await Promise.allSettled([work]);
    }
  }

  #createControl(): ControlClient<ServerOrders> {
    const client = new ManagerClient(this.#config.managerUrl, this.#membership);
    return new ControlClient<ServerOrders>({
      client,
      schema: ServerOrders,
      poll: (after, signal) => client.serverOrders(after, signal),
      ordered: async (orders) => this.#ordered(orders),
      report: async (signal) => {
        assert(this.#reporter !== undefined, 'reports begin once it is known where the server listens');
        const report = await this.#reporter.report();
        const reply = await client.report(report, signal);
        this.#events.accepted(report.events);
        return reply;
      },
      tell: async (orders, signal) => {
        const replicas = await this.#keeper.read(this.#replicaIds());
        await client.tell({ orders, replicas }, signal);
      },
      renewed: (membership) => {
        this.#membership = membership;
        this.#listener?.update(this.#identity());
      },
      dataDirectory: this.#config.dataDirectory,
      clock,
      log: this.#log,
    });
  }

  /** Tasks may take long and must not hold up the next orders. */
  #ordered(orders: ServerOrders): void {
    this.#orders.take(orders);
    this.#host.recheck();
    this.#listener?.update(this.#identity());
    this.#tasks.take(orders.tasks).catch((error: unknown) => this.#broken.reject(error));
    this.#keeper.keep(orders.replicas).catch((error: unknown) => this.#broken.reject(error));
  }

  #replicaIds(): string[] {
    return [...this.#store.entries()].map(([id]) => id);
  }

  /** Trust comes with the orders; what joining has brought stands in until the first ones are here. */
  #identity(): TlsIdentity {
    const trust = this.#orders.orders?.trust ?? this.#membership.trust;
    return {
      credentials: {
        certificatePem: this.#membership.certificate_pem,
        privateKeyPem: this.#membership.private_key_pem,
      },
      trust: trust.map((site) => ({ siteId: site.site_id, caPem: site.ca_pem })),
    };
  }

  async #serve(transport: Transport, signal: AbortSignal): Promise<void> {
    const { siteId, id } = transport.peer;
    const log = this.#log.with({ site: siteId, agent: id });
    try {
      const { failure, wireBytes } = await serveSession(transport, this.#host, { clock, signal });
      if (failure === undefined || signal.aborted) log.info('session.ended', { wire_bytes: wireBytes });
      else log.warning('session.failed', { wire_bytes: wireBytes, ...failureFields(failure) });
      if (failure?.code === 'storage_full') this.#storeIsFull(failure);
    } catch (error) {
      this.#broken.reject(error);
    }
    this.#control.changed();
  }

  #committed(replicaId: string, point: RecoveryPoint): void {
    if (this.#isFull) this.#storeHasRoom();
    this.#log.info('point.committed', {
      replica: replicaId,
      sequence: point.sequence,
      bytes: point.deltaBytes,
    });
    this.#control.changed();
    // The first point of a replica that was made after its order came.
    const order = point.sequence === 1 ? this.#orders.replica(replicaId) : undefined;
    if (order !== undefined) {
      this.#keeper.keep([order]).catch((error: unknown) => this.#broken.reject(error));
    }
  }

  #refused(failure: Failure, remote: string): void {
    this.#log.warning('peer.refused', { remote, ...failureFields(failure) });
  }

  #storeIsFull(failure: Failure): void {
    if (this.#isFull) return;
    this.#isFull = true;
    const { storeDirectory: id } = this.#config;
    this.#log.error('store.full', { store: id, ...failureFields(failure) });
    this.#events.add({
      kind: 'store.full',
      severity: 'error',
      subject: { kind: 'store', id },
      message: `The store ${id} is full: ${failure.message}. Points that are there stay; newer ones wait for room.`,
    });
  }

  #storeHasRoom(): void {
    this.#isFull = false;
    const { storeDirectory: id } = this.#config;
    this.#log.info('store.has_room', { store: id });
    this.#events.add({
      kind: 'store.has_room',
      severity: 'info',
      subject: { kind: 'store', id },
      message: `The store ${id} takes recovery points again.`,
    });
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
