/** For tests: plans made by chance, and a world that records what runs do to it. */
import type { PlanStep } from '#/api/plans.ts';
import type { RecoveryRequest, RecoveryView } from '#/api/recoveries.ts';
import type { RunKind } from '#/api/runs.ts';
import { chance, integerBelow, type Random } from '#/lib/random.ts';
import type { Database } from '#/manager/store/database.ts';
import type { RecoveryPort } from './execute/recover.ts';
import type { Guests, SourceCopies, StepOutcome } from './ports.ts';
import type { RunPlan, RunVm } from './run-plan.ts';

export function planVm(name: string, change: Partial<RunVm> = {}): RunVm {
  return {
    vmUuid: `uuid-${name}`,
    vmName: name,
    replicaId: `replica-${name}`,
    sourceSiteId: 'site-west',
    priority: 3,
    dependsOn: [],
    start: 'on',
    shutDown: { mode: 'guest', timeoutMs: 60_000 },
    hostId: null,
    networks: {},
    storagePath: null,
    health: [],
    before: [],
    after: [],
    customize: null,
    point: { from: 'newest' },
    isSourceSilent: false,
    ...change,
  };
}

export function planOf(kind: RunKind, vms: RunVm[], change: Partial<RunPlan> = {}): RunPlan {
  return {
    kind,
    planId: 'plan-1',
    planName: 'all',
    groups: ['group'],
    vms,
    before: [],
    after: [],
    priorities: {},
    suspend: [],
    test: { networks: 'one', router: {} },
    ...change,
  };
}

export const message = (name: string): PlanStep => ({ kind: 'message', name, text: name });
export const inGuest = (name: string, vm?: string): PlanStep => ({
  kind: 'guest',
  name,
  path: '/bin/true',
  ...(vm === undefined ? {} : { vm }),
});

/** Dependencies go from later VMs to earlier ones in a hidden order, whatever their priorities. */
export function randomPlan(random: Random, kind: RunKind): RunPlan {
  const count = 1 + integerBelow(random, 12);
  const vms = Array.from({ length: count }, (_, index) => {
    const dependsOn = Array.from({ length: index }, (_unused, other) => `uuid-vm-${other}`);
    return planVm(`vm-${index}`, {
      priority: 1 + integerBelow(random, 5),
      dependsOn: dependsOn.filter(() => chance(random, 0.2)),
      health: chance(random, 0.5) ? [{ kind: 'agent' }, { kind: 'tcp', port: 80 }] : [],
      before: chance(random, 0.2) ? [message('before')] : [],
      after: chance(random, 0.3) ? [inGuest('after')] : [],
      customize: chance(random, 0.2) ? { by: 'agent', hostName: 'new', addresses: [] } : null,
      isSourceSilent: chance(random, 0.2),
    });
  });
  const priorities = [1, 2, 3, 4, 5]
    .filter(() => chance(random, 0.3))
    .map((priority) => [
      String(priority),
      { before: [message(`before ${priority}`)], after: [message(`after ${priority}`)] },
    ]);
  return planOf(
    kind,
    vms.toSorted(() => random.next() - 0.5),
    {
      before: chance(random, 0.5) ? [message('first'), message('second')] : [],
      after: chance(random, 0.5) ? [message('last')] : [],
      priorities: Object.fromEntries(priorities) as RunPlan['priorities'],
      suspend: chance(random, 0.5) ? [{ hostId: 'host-1', vmUuid: 'uuid-idle', vmName: 'idle' }] : [],
    },
  );
}

/** `broken` names what fails: such as "probe:web" or "recover:web"; `silent` what never comes to an end. */
export type Trouble = { broken: Set<string>; silent: Set<string> };

/**
 * Sites whose VMs do at once what they are asked. Every call may come any number of times; what it changes is the
 * state, and what happened when is in `story`.
 */
export class World implements SourceCopies, Guests {
  readonly story: string[] = [];
  readonly jobs = new Map<string, RecoveryView>();
  /** VMs that run at the protected site. */
  readonly atSource = new Set<string>();
  readonly suspended = new Set<string>();
  readonly trouble: Trouble = { broken: new Set(), silent: new Set() };
  readonly #shutDowns = new Set<string>();
  readonly recoveries: RecoveryPort;
  readonly #db: Database;
  readonly #nowMs: () => number;

  constructor(db: Database, vms: readonly RunVm[], nowMs: () => number) {
    this.#db = db;
    this.#nowMs = nowMs;
    for (const { vmName } of vms) this.atSource.add(vmName);
    this.recoveries = {
      start: (asked, options) => this.#start(asked, options),
      find: async (id) => this.jobs.get(id),
      cleanUp: (id) => this.#cleanUp(id),
      retry: (id) => this.#retry(id),
    };
  }

  /** Where everything is, for comparing the ends of two runs. */
  state(): unknown {
    const jobs = [...this.jobs.values()].filter(({ state }) => state !== 'cleaned');
    return {
      atSource: [...this.atSource].toSorted(),
      recovered: jobs.map((job) => `${job.name} ${job.purpose} ${job.state}`).toSorted(),
      suspended: [...this.suspended],
    };
  }

  /** VMs of which two run for production. */
  twice(): string[] {
    const here = [...this.jobs.values()].filter(
      ({ state, purpose }) => purpose === 'recovery' && state !== 'cleaned',
    );
    return here.map(({ name }) => name).filter((name) => this.atSource.has(name));
  }

  async #start(
    asked: RecoveryRequest,
    options: { id: string; within: (at: Database) => Promise<void> },
  ): Promise<RecoveryView> {
    const name = asked.vm.replace('replica-', '');
    await this.#db.transaction().execute(options.within);
    const purpose = asked.purpose ?? 'recovery';
    // Before one runs here for production the other yields.
    if (purpose === 'recovery') this.atSource.delete(name);
    const isBroken = this.trouble.broken.has(`recover:${name}`);
    // Up, and its disks cannot be pulled.
    const isCut = this.trouble.broken.has(`pull:${name}`);
    const job: RecoveryView = {
      id: options.id,
      replica_id: asked.vm,
      vm_name: name,
      name: purpose === 'test' ? `${name}-test` : name,
      purpose,
      point: asked.point ?? 7,
      moment_ms: 1000,
      host_id: 'host-1',
      epoch: 2,
      state: isBroken || isCut ? 'failed' : purpose === 'test' ? 'ready' : 'done',
      steps: [],
      result: isBroken ? null : { vm_uuid: `here-${name}`, up_ms: 2000 },
      failure: isBroken
        ? { code: 'timeout', message: `${name} gave no sign of life`, hint: null }
        : isCut
          ? { code: 'storage_io', message: `the disks of ${name} cannot be pulled`, hint: null }
          : null,
      created_ms: 0,
      updated_ms: this.#nowMs(),
    };
    if (!this.jobs.has(options.id)) this.story.push(`recover ${name}`);
    this.jobs.set(options.id, job);
    return job;
  }

  async #retry(id: string): Promise<RecoveryView> {
    const known = this.jobs.get(id)!;
    const isCut = this.trouble.broken.has(`pull:${known.vm_name}`);
    const job: RecoveryView = { ...known, state: isCut ? 'failed' : 'done', updated_ms: this.#nowMs() + 1 };
    this.story.push(`retry ${job.vm_name}`);
    this.jobs.set(id, job);
    return job;
  }

  async #cleanUp(id: string): Promise<RecoveryView> {
    const job = { ...this.jobs.get(id)!, state: 'cleaned' as const };
    if (this.jobs.get(id)?.state !== 'cleaned') this.story.push(`discard ${job.vm_name}`);
    this.jobs.set(id, job);
    return job;
  }

  async shutDown(id: string, replica: { vm_name: string }): Promise<StepOutcome> {
    return this.#outcome(`shut_down:${replica.vm_name}`, () => {
      if (this.atSource.delete(replica.vm_name)) this.#shutDowns.add(`${id} ${replica.vm_name}`);
    });
  }

  async lastCycle(_id: string, replica: { vm_name: string }): Promise<StepOutcome> {
    const outcome = this.#outcome(`last_cycle:${replica.vm_name}`, () => undefined);
    return outcome.state === 'done' ? { ...outcome, result: { sequence: 9, moment_ms: 5 } } : outcome;
  }

  async startAgain(_id: string, replica: { vm_name: string }, shutDownId: string): Promise<StepOutcome> {
    return this.#outcome(`start_again:${replica.vm_name}`, () => {
      if (this.#shutDowns.has(`${shutDownId} ${replica.vm_name}`)) this.atSource.add(replica.vm_name);
    });
  }

  async probe(_id: string, vm: { vmName: string }): Promise<StepOutcome> {
    return this.#outcome(`probe:${vm.vmName.replace('-test', '')}`, () => undefined);
  }

  async execute(_id: string, vm: { vmName: string }): Promise<StepOutcome> {
    return this.#outcome(`execute:${vm.vmName.replace('-test', '')}`, () => undefined);
  }

  async customize(_id: string, vm: { vmName: string }): Promise<StepOutcome> {
    return this.#outcome(`customize:${vm.vmName.replace('-test', '')}`, () => undefined);
  }

  async suspend(_id: string, vm: { vmName: string }): Promise<StepOutcome> {
    return this.#outcome(`suspend:${vm.vmName}`, () => this.suspended.add(vm.vmName));
  }

  async resume(_id: string, vm: { vmName: string }): Promise<StepOutcome> {
    return this.#outcome(`resume:${vm.vmName}`, () => this.suspended.delete(vm.vmName));
  }

  async cancel(id: string): Promise<void> {
    this.story.push(`cancel ${id}`);
  }

  #outcome(what: string, work: () => unknown): StepOutcome {
    if (this.trouble.silent.has(what)) return { state: 'waiting' };
    if (this.trouble.broken.has(what)) {
      return { state: 'failed', failure: { code: 'tool_failed', message: `${what} is broken`, hint: null } };
    }
    work();
    this.story.push(what.replace(':', ' '));
    return { state: 'done' };
  }
}
