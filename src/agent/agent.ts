/**
 * The agent's parts, put together, from its start to its end.
 *
 * It replicates by the orders on its disk before it has spoken to its manager, and goes on by them for as long as the
 * manager is away. Being killed at any moment instead of stopped costs nothing but the next start's tidying up.
 */
import { availableParallelism, hostname } from 'node:os';
import { mkdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { ConsoleTask } from '#/control/console-task.ts';
import { ControlClient } from '#/control/control-client.ts';
import { EventBuffer } from '#/control/event-buffer.ts';
import { openConsoleLink } from '#/control/console-link.ts';
import { ManagerClient, type Membership } from '#/control/manager-client.ts';
import { joinedMembership } from '#/control/member-file.ts';
import { AgentOrders, type TrustedSite } from '#/control/orders.ts';
import type { AgentReport } from '#/control/reports.ts';
import { lockDirectory } from '#/lib/directory-lock.ts';
import { Failure } from '#/lib/failure.ts';
import type { Log } from '#/lib/log.ts';
import { machineIdentity } from '#/lib/machine-identity.ts';
import { qemuUser } from '#/lib/qemu-user.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import type { DomainEvent } from '#/libvirt/events.ts';
import { CycleGate } from '#/replication/cycle-gate.ts';
import { SessionPool } from '#/wire/session-pool.ts';
import { GROUPS_IN_FLIGHT } from '#/replication/limits.ts';
import type { AgentConfig } from './agent-config.ts';
import { AgentTasks } from './agent-tasks.ts';
import { Baselines } from './baseline/baselines.ts';
import { CodecWorkers } from './codec-workers.ts';
import { DomainWatch } from './domain-watch.ts';
import { hasGuestfish } from './edit/appliance.ts';
import { makeExportsDirectory } from './exports-directory.ts';
import { FenceStore } from './fence-store.ts';
import { Fencing } from './fencing.ts';
import { HookKeeper } from './hook-keeper.ts';
import { AddressBook } from './guest/address-book.ts';
import { InventoryKeeper } from './inventory-keeper.ts';
import { LibvirtConnection } from './libvirt-connection.ts';
import { reloadLibvirt } from './libvirt-reload.ts';
import { CODEC_THREADS_MAX, CYCLES_AT_ONCE } from './limits.ts';
import { failureReport, type ProtectionParts } from './protection.ts';
import { Protections } from './protections.ts';
import type { LinkIdentity } from './replica-connection.ts';
import { SeedFiles } from './seed/seed-files.ts';
import { VmTurns } from './vm-turns.ts';

/** Of the fence records, within `data_directory`. */
const FENCE_DIRECTORY = 'fence';

/** Runs until the signal aborts. Throws what keeps it from starting, and what only a bug can cause. */
export async function runAgent(config: AgentConfig, log: Log, signal: AbortSignal): Promise<void> {
  await using _lock = await lockDirectory(config.dataDirectory);
  for (const directory of [config.scratchDirectory, config.runDirectory, config.storageDirectory]) {
    await mkdir(directory, { recursive: true, mode: 0o711 });
  }
  const exportsDirectory = await makeExportsDirectory(config.runDirectory, await qemuUser());
  const membership = await joinedMembership(
    {
      kind: 'agent',
      name: hostname(),
      dataDirectory: config.dataDirectory,
      manager: config.managerUrl,
      tokenFile: config.joinTokenFile,
      clock,
      log,
    },
    signal,
  );
  const threads = Math.min(CODEC_THREADS_MAX, availableParallelism());
  await using codec = new CodecWorkers({ threads, queueMax: CYCLES_AT_ONCE * GROUPS_IN_FLIGHT });
  const agent = new Agent(config, { membership, codec, log, exportsDirectory });
  await agent.run(signal);
}

type AgentParts = {
  membership: Membership;
  codec: CodecWorkers;
  log: Log;
  /** Sockets between QEMU and the agent. */
  exportsDirectory: string;
};

class Agent {
  readonly #config: AgentConfig;
  readonly #log: Log;
  readonly #events: EventBuffer;
  readonly #watch = new DomainWatch();
  readonly #libvirt: LibvirtConnection;
  readonly #inventory: InventoryKeeper;
  readonly #addresses: AddressBook;
  readonly #pool = new SessionPool(clock);
  readonly #protections: Protections;
  readonly #tasks: AgentTasks;
  readonly #hooks: HookKeeper;
  readonly #fencing: Fencing;
  readonly #control: ControlClient<AgentOrders>;
  readonly #broken = Promise.withResolvers<never>();
  #membership: Membership;
  #orders: AgentOrders | undefined;

  constructor(config: AgentConfig, parts: AgentParts) {
    const { log, codec, exportsDirectory: runDirectory } = parts;
    const { dataDirectory, tpmDirectory, scratchDirectory } = config;
    this.#config = config;
    this.#log = log;
    this.#membership = parts.membership;
    const changed = (): void => this.#control.changed();
    const broken = (error: unknown): void => this.#broken.reject(error);
    this.#events = new EventBuffer(clock, systemRandom, changed);
    this.#libvirt = new LibvirtConnection({
      socketPath: config.libvirtSocket,
      clock,
      log,
      onEvent: (event) => this.#happened(event),
      onChange: () => this.#libvirtChanged(),
    });
    this.#inventory = new InventoryKeeper({ libvirt: this.#libvirt, clock, log, changed });
    const vms = () => this.#inventory.vms;
    this.#addresses = new AddressBook({ libvirt: this.#libvirt, clock, log, vms, changed });
    const baselines = new Baselines({ dataDirectory, libvirt: this.#libvirt.current, log });
    const protectionParts: ProtectionParts = {
      baselines,
      libvirt: this.#libvirt.current,
      watch: this.#watch,
      turns: new VmTurns(),
      clock,
      log,
      scratchDirectory,
      runDirectory,
      tpmDirectory,
      codec,
      gate: new CycleGate(CYCLES_AT_ONCE),
      pool: this.#pool,
      identity: () => this.#identity(),
      events: this.#events,
      recordsDirectory: join(dataDirectory, 'records'),
      vm: (uuid) => this.#inventory.vm(uuid),
      changed,
      broken,
    };
    this.#protections = new Protections(protectionParts);
    const libvirt = this.#libvirt;
    const ended = (): void => this.#control.changedAndAwaited();
    this.#tasks = new AgentTasks({
      libvirt,
      clock,
      log,
      dataDirectory,
      tpmDirectory,
      replication: this.#protections,
      baselines,
      openLink: (task, signal) => this.#openLink(task, signal),
      seeds: { ...protectionParts, files: new SeedFiles(dataDirectory) },
      changed,
      ended,
      broken,
    });
    [this.#hooks, this.#fencing] = this.#createFencing();
    this.#control = this.#createControl();
  }

  async run(signal: AbortSignal): Promise<void> {
    const upkeep = new AbortController();
    await this.#fencing.load();
    const parts = [this.#libvirt, this.#fencing, this.#inventory, this.#addresses, this.#tasks];
    const connection = parts.map((part) => part.run(upkeep.signal));
    await this.#control.takeKeptOrders();
    const work = Promise.all([...connection, this.#control.run(upkeep.signal)]);
    work.catch((error: unknown) => this.#broken.reject(error));
    try {
      await Promise.race([aborted(signal), this.#broken.promise]);
    } finally {
      // Moments are let go of while libvirt is still connected.
      await Promise.allSettled([this.#tasks.stop(), this.#protections.stop()]);
      await this.#pool[Symbol.asyncDispose]();
      upkeep.abort(new Failure('cancelled', 'the agent stops'));
      await Promise.allSettled([work]);
    }
  }

  #createFencing(): [HookKeeper, Fencing] {
    const { dataDirectory, hookDirectory, libvirtSocket, supersededVm: policy } = this.#config;
    const log = this.#log;
    const siteId = this.#membership.site_id;
    const siteName = this.#trust().find((site) => site.site_id === siteId)?.site_name ?? siteId;
    const store = new FenceStore(new NodeFileSystem(dataDirectory), FENCE_DIRECTORY);
    const fenceDirectory = join(dataDirectory, FENCE_DIRECTORY);
    const hook = { hookDirectory, fenceDirectory, siteId, siteName };
    const hooks = new HookKeeper({ hook, store, reload: () => reloadLibvirt(libvirtSocket), clock, log });
    const fencing = new Fencing({
      siteId,
      libvirt: this.#libvirt,
      store,
      hooks,
      policy,
      trust: () => this.#trust(),
      clock,
      log,
      events: this.#events,
      // A recovery at another site may wait for it.
      changed: () => this.#control.changedAndAwaited(),
    });
    return [hooks, fencing];
  }

  #createControl(): ControlClient<AgentOrders> {
    const client = new ManagerClient(this.#config.managerUrl, this.#membership);
    return new ControlClient<AgentOrders>({
      client,
      schema: AgentOrders,
      poll: (after, signal) => client.agentOrders(after, signal),
      ordered: (orders) => this.#ordered(orders),
      report: async (signal) => {
        const report = await this.#report();
        const reply = await client.report(report, signal);
        this.#events.accepted(report.events);
        return reply;
      },
      tell: (orders, signal) => client.tell({ orders, fences: this.#fencing.claims() }, signal),
      renewed: (membership) => {
        this.#membership = membership;
      },
      dataDirectory: this.#config.dataDirectory,
      clock,
      log: this.#log,
    });
  }

  /** Stopping a protection may take until its moment is let go of, and must not hold up tasks or later orders. */
  async #ordered(orders: AgentOrders): Promise<void> {
    this.#orders = orders;
    // On disk before a recovered VM is started by it.
    await this.#fencing.take(orders);
    this.#tasks.take(orders.tasks);
    this.#protect(orders);
  }

  #protect(orders: AgentOrders): void {
    const { kept_records: kept, protections } = orders;
    this.#protections.take(protections, kept).catch((error: unknown) => this.#broken.reject(error));
  }

  /** With a connection, what old protections left in libvirt can be removed. */
  #libvirtChanged(): void {
    this.#control.changed();
    this.#inventory.refresh();
    if (this.#libvirt.failure === undefined && this.#orders !== undefined) this.#protect(this.#orders);
  }

  #happened(event: DomainEvent): void {
    this.#watch.deliver(event);
    this.#fencing.happened(event);
    this.#inventory.happened(event);
    const isShutDown =
      event.kind === 'lifecycle' && event.change === 'stopped' && event.reason === 'shutdown';
    if (isShutDown) this.#protections.vmChanged(event.domain.uuid);
  }

  /** Trust comes with the orders; what joining has brought stands in until the first ones are here. */
  #trust(): readonly TrustedSite[] {
    return this.#orders?.trust ?? this.#membership.trust;
  }

  #openLink(task: ConsoleTask, signal: AbortSignal): Promise<Duplex> {
    const { ca_pem: caPem, certificate_pem: certificatePem, site_id: siteId } = this.#membership;
    const credentials = { certificatePem, privateKeyPem: this.#membership.private_key_pem };
    return openConsoleLink({ address: task.manager, siteId, caPem, credentials }, task, signal);
  }

  #identity(): LinkIdentity {
    return {
      credentials: {
        certificatePem: this.#membership.certificate_pem,
        privateKeyPem: this.#membership.private_key_pem,
      },
      authorities: new Map(this.#trust().map((site) => [site.site_id, site.ca_pem])),
    };
  }

  async #report(): Promise<AgentReport> {
    const failure = this.#libvirt.failure;
    const { bavail, bsize } = await statfs(this.#config.storageDirectory);
    return {
      sent_ms: clock.now(),
      host: {
        ...this.#inventory.host,
        hostname: hostname(),
        machine: await machineIdentity(),
        libvirt_failure: failure === undefined ? null : failureReport(failure),
        storage_path: this.#config.storageDirectory,
        storage_free_bytes: bavail * bsize,
        start_hook: this.#hooks.report,
        edits_disks: hasGuestfish(),
      },
      vms: this.#addresses.added(this.#inventory.vms),
      replications: this.#protections.reports(),
      fences: this.#fencing.reports(),
      retired: this.#tasks.retired(),
      tasks: this.#tasks.reports(),
      events: this.#events.pending(),
    };
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
