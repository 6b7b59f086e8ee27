/**
 * A site for bench/partitions.ts: a real manager, the agent's real fencing with its records and its start hook as a
 * real shell script, and in the place of libvirt and QEMU a model of one VM, which runs, is paused, or is off.
 */
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FenceStore } from '#/agent/fence-store.ts';
import { Fencing } from '#/agent/fencing.ts';
import { hookText } from '#/agent/start-hook.ts';
import { EventBuffer } from '#/control/event-buffer.ts';
import type { AgentTask } from '#/control/orders.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { Failure } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import {
  doneTask,
  ledgerVm,
  VIEW,
  type FakeAgent,
  type FakeServer,
  type TestSite,
} from '#/manager/site-fixture.ts';
import { epochMarkText } from '#/recovery/epoch-mark.ts';
import { ModelDomain } from './model-domain.ts';

const REPORT_EVERY_MS = 250;
const RETRY_MS = 100;

export class ModelSite implements AsyncDisposable {
  readonly site: TestSite;
  domain: ModelDomain | undefined;
  isUp = false;
  readonly #agent: FakeAgent;
  readonly #server: FakeServer;
  readonly #directory: string;
  #fencing: Fencing | undefined;
  #stop = new AbortController();
  #loops: Promise<void>[] = [];

  private constructor(site: TestSite, programs: { agent: FakeAgent; server: FakeServer }, directory: string) {
    this.site = site;
    this.#agent = programs.agent;
    this.#server = programs.server;
    this.#directory = directory;
  }

  static async join(site: TestSite): Promise<ModelSite> {
    const directory = await mkdtemp(join(tmpdir(), 'antipode-partitions-'));
    await mkdir(join(directory, 'fence'));
    const name = site.config.siteName;
    const programs = { agent: await site.agent(`${name}-host`), server: await site.server(`${name}-server`) };
    const options = { hookDirectory: directory, fenceDirectory: join(directory, 'fence') };
    const { siteId } = site.manager.context.identity;
    const text = await hookText({ ...options, siteId, siteName: name });
    await writeFile(join(directory, 'hook'), text, { mode: 0o755 });
    return new ModelSite(site, programs, directory);
  }

  get isRunning(): boolean {
    return this.domain?.state === 'running';
  }

  /** The machine boots: VMs with autostart come up before our programs do, if the hook lets them. */
  async powerOn(isManagerUp = false): Promise<void> {
    if (this.domain?.autostart === true) this.start();
    if (!isManagerUp) await this.site.restart();
    const signal = (this.#stop = new AbortController()).signal;
    const fencing = this.#createFencing();
    this.#fencing = fencing;
    await fencing.load();
    this.#loops = [
      fencing.run(signal),
      this.#repeat(signal, () => this.#takeOrders(signal)),
      this.#repeat(signal, () => this.#serve(signal)),
      this.#repeat(signal, async () => {
        await this.#report();
        await this.#reportServer();
        await clock.sleep(REPORT_EVERY_MS, signal);
      }),
    ];
    this.isUp = true;
  }

  /** The machine loses its power. */
  async powerOff(): Promise<void> {
    this.isUp = false;
    if (this.domain !== undefined) this.domain.state = 'shutoff';
    this.#stop.abort(new Failure('cancelled', 'power off'));
    await Promise.allSettled(this.#loops);
    this.#fencing = undefined;
    await this.site.stop();
  }

  /** As `virsh start`: false when the hook refuses it. */
  start(): boolean {
    const { domain } = this;
    if (domain === undefined) return false;
    const hook = join(this.#directory, 'hook');
    const { status } = spawnSync('sh', [hook, domain.name, 'prepare', 'begin', '-'], { input: domain.xml() });
    if (status !== 0) return false;
    domain.state = 'running';
    this.#happened('started');
    return true;
  }

  /** As `virsh resume`, which no hook sees. */
  resume(): void {
    if (this.domain?.state !== 'paused') return;
    this.domain.state = 'running';
    this.#happened('resumed');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.isUp) await this.powerOff();
    await this.site[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true, force: true });
  }

  #happened(change: 'started' | 'resumed'): void {
    const { domain } = this;
    if (domain === undefined) return;
    const event = { kind: 'lifecycle', change, domain: { uuid: domain.uuid, name: domain.name } };
    this.#fencing?.happened(event as unknown as Parameters<Fencing['happened']>[0]);
  }

  #createFencing(): Fencing {
    const libvirt = { listDomains: async () => (this.domain === undefined ? [] : [this.domain]) };
    return new Fencing({
      siteId: this.site.manager.context.identity.siteId,
      libvirt: { ready: async () => libvirt as unknown as Libvirt },
      store: new FenceStore(new NodeFileSystem(this.#directory), 'fence'),
      // The script is there; only libvirt could tell whether it is asked.
      hooks: { look: async () => undefined } as never,
      policy: 'pause',
      trust: () => this.#agent.orders?.trust ?? [],
      clock,
      log: silentLog,
      events: new EventBuffer(clock, systemRandom),
      changed: () => void this.#report().catch(() => undefined),
    });
  }

  async #repeat(signal: AbortSignal, work: () => Promise<void>): Promise<void> {
    while (!signal.aborted) {
      try {
        await work();
      } catch {
        // The manager is away, or has nothing new: as every program, it goes on.
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  async #takeOrders(signal: AbortSignal): Promise<void> {
    const orders = await this.#agent.poll(signal);
    await this.#fencing?.take(orders);
    for (const task of orders.tasks) await this.#carryOut(task);
  }

  async #carryOut(task: AgentTask): Promise<void> {
    if (this.#agent.report.tasks.some(({ id }) => id === task.id)) return;
    const { domain } = this;
    if (task.kind === 'recover' && task.claim !== undefined) {
      const fresh = new ModelDomain();
      fresh.metadata = epochMarkText({ claim: task.claim, yielded: undefined });
      fresh.autostart = true;
      this.domain = fresh;
      if (!this.start()) throw new Error(`the hook refuses the recovered VM of ${task.id}`);
      await this.#finish(task.id, null);
    } else if (task.kind === 'seed') {
      if (domain?.state === 'running') throw new Error('a copy that runs is not the old one');
      if (domain !== undefined) domain.state = 'shutoff';
      const only = { only_here: null, only_here_note: 'a model has no disks' };
      const point = { sequence: 1, moment_ms: clock.now(), read_bytes: 0, changed_bytes: 0 };
      await this.#finish(task.id, { ...point, ...only });
    } else await this.#finish(task.id, null);
  }

  async #finish(id: string, result: Record<string, unknown> | null): Promise<void> {
    this.#agent.report.tasks = [...this.#agent.report.tasks, doneTask(id, result)].slice(-50);
    await this.#report();
  }

  async #report(): Promise<void> {
    const { domain } = this;
    this.#agent.report.vms = domain === undefined ? [] : [ledgerVm({ state: domain.state })];
    this.#agent.report.fences = this.#fencing?.reports() ?? [];
    await this.#agent.send();
  }

  async #serve(signal: AbortSignal): Promise<void> {
    const orders = await this.#server.poll(signal);
    for (const task of orders.tasks) {
      if (this.#server.report.tasks.some(({ id }) => id === task.id)) continue;
      const result = task.kind === 'open_view' ? VIEW : null;
      this.#server.report.tasks = [...this.#server.report.tasks, doneTask(task.id, result)].slice(-50);
    }
    await this.#reportServer();
  }

  async #reportServer(): Promise<void> {
    const nowMs = clock.now();
    for (const { replica_id: id } of this.#server.orders?.replicas ?? []) {
      await this.#server.holds(id, [nowMs - 2000, nowMs - 1000]);
    }
    await this.#server.send();
  }
}
