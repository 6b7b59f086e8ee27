/**
 * Screens of VMs in browsers. A person asks for one; the agent of the VM's host is ordered to bring it, over a
 * connection that it opens; the person's browser comes for it with a WebSocket, and the two are joined.
 *
 * Invariant: a console is joined once, to the person who asked for it, and to the agent of the host that was asked. It
 * ends with either connection, and with the person's right to it. That it was opened and that it ended are on record.
 */
import type { Duplex } from 'node:stream';
import type { ConsoleView } from '#/api/consoles.ts';
import type { ConsoleTask } from '#/control/console-task.ts';
import { Failure, isFailureCode } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Demand } from '#/manager/access/rule.ts';
import type { Audit } from '#/manager/audit.ts';
import type { Context } from '#/manager/context.ts';
import { newId } from '#/manager/ids.ts';
import type { AgentMember } from '#/manager/inventory.ts';
import {
  CONSOLES_MAX,
  CONSOLES_PER_HOST_MAX,
  CONSOLE_ARRIVE_MS,
  CONSOLE_FETCH_MS,
} from '#/manager/limits.ts';
import { recoverTaskId } from '#/manager/recovery-tasks.ts';
import { findJob, type Job } from '#/manager/store/job-store.ts';
import { listReplicas } from '#/manager/store/replica-store.ts';
import { addTask, dropConsoleTasks, dropTask, findTask } from '#/manager/store/task-store.ts';

/** How often it is looked whether the agent has failed: its report may have come to another manager of this site. */
const LOOK_EVERY_MS = 500;

export type ConsolePerson = { name: string; by: string; sessionId: string | null; address: string };

type Console = {
  id: string;
  job: Job;
  host: AgentMember;
  who: ConsolePerson;
  openedMs: number;
  /** Brought by the agent, and not yet taken by the browser. */
  screen: Duplex | undefined;
  isTaken: boolean;
  /** Ends it when the browser does not come. */
  fetch: NodeJS.Timeout | undefined;
  /** Aborts when the agent has come. */
  came: AbortController;
  /** Aborts when it is over. */
  over: AbortController;
  /** Settled when that is on record. */
  ended: PromiseWithResolvers<void>;
};

export class Consoles {
  readonly #context: Context;
  readonly #audit: Audit;
  readonly #port: () => number;
  readonly #consoles = new Map<string, Console>();
  #isClosing = false;

  constructor(context: Context, audit: Audit, port: () => number) {
    this.#context = context;
    this.#audit = audit;
    this.#port = port;
  }

  /** What is needed for the console of a recovery. Throws not_found. */
  async demandOf(recoveryId: string): Promise<Demand> {
    const { db } = this.#context;
    const { replica_id: id, request } = await this.#job(recoveryId);
    const replica = (await listReplicas(db)).find((known) => known.id === id);
    return {
      permission: request.purpose === 'test' ? 'console.test' : 'console.run',
      on: { vmUuids: [replica?.vm_uuid ?? 'gone'] },
    };
  }

  recoveryOf(id: string): string {
    return this.#find(id).job.id;
  }

  /**
   * Resolves when the screen is here, for the browser to come for it. Throws not_found, conflict (the VM is off, or
   * gone), vm_unsupported (it has no screen), unreachable, timeout, limit_exceeded.
   */
  async open(recoveryId: string, who: ConsolePerson, signal: AbortSignal): Promise<ConsoleView> {
    const { changes, db } = this.#context;
    const job = await this.#job(recoveryId);
    const host = this.#hostOf(job);
    const one = await this.#order(job, host, who);
    try {
      await this.#arrival(one, signal);
    } catch (error) {
      this.#consoles.delete(one.id);
      one.screen?.destroy();
      await dropTask(db, one.id);
      changes.notify('orders');
      one.ended.resolve();
      throw error;
    }
    one.fetch = setTimeout(() => this.#end(one, 'nobody came for it'), CONSOLE_FETCH_MS);
    one.screen!.once('close', () => {
      if (!one.isTaken) this.#end(one, 'its screen is gone');
    });
    return { id: one.id, recovery_id: job.id, vm_name: job.request.name, host_name: host.name };
  }

  /** The agent's connection, from which nothing is read before the browser is there. Resolves when it is over. */
  async arrive(id: string, agentId: string): Promise<(screen: Duplex, gone: AbortSignal) => Promise<void>> {
    const one = this.#consoles.get(id);
    const isAwaited = one !== undefined && one.host.id === agentId && one.screen === undefined;
    if (!isAwaited || this.#isClosing) throw unknownConsole(id);
    return async (screen, gone) => {
      one.screen = screen;
      one.came.abort();
      if (gone.aborted) screen.destroy();
      gone.addEventListener('abort', () => screen.destroy(), { once: true });
    };
  }

  /** For the person's browser, once. What is returned lends the screen to `use`, which says why it ended. */
  take(id: string, who: ConsolePerson): (use: (screen: Duplex) => Promise<string>) => Promise<void> {
    const one = this.#find(id);
    const isSame = one.who.name === who.name && one.who.by === who.by && one.who.sessionId === who.sessionId;
    const { screen } = one;
    if (!isSame || one.isTaken || screen === undefined) throw unknownConsole(id);
    one.isTaken = true;
    clearTimeout(one.fetch);
    return async (use) => this.#end(one, await use(screen));
  }

  /** Once the signal that what is taken ends by has aborted: resolves when the end of all is on record. */
  async close(): Promise<void> {
    this.#isClosing = true;
    const all = [...this.#consoles.values()];
    for (const one of all) if (!one.isTaken) this.#end(one, 'the manager stops');
    await Promise.all(all.map(({ ended }) => ended.promise));
  }

  async #order(job: Job, host: AgentMember, who: ConsolePerson): Promise<Console> {
    const { changes, clock, config, db, random } = this.#context;
    if (this.#isClosing) throw new Failure('unreachable', 'the manager stops');
    const onHost = [...this.#consoles.values()].filter((one) => one.host.id === host.id).length;
    if (onHost >= CONSOLES_PER_HOST_MAX || this.#consoles.size >= CONSOLES_MAX) {
      const bound = onHost >= CONSOLES_PER_HOST_MAX ? `${onHost} consoles of host ${host.name}` : 'too many';
      throw new Failure('limit_exceeded', `${bound} are open already`, {
        hint: 'Close one that is not needed.',
      });
    }
    const one: Console = {
      id: newId(random, 'console'),
      job,
      host,
      who,
      openedMs: clock.now(),
      screen: undefined,
      isTaken: false,
      fetch: undefined,
      came: new AbortController(),
      over: new AbortController(),
      ended: Promise.withResolvers(),
    };
    this.#consoles.set(one.id, one);
    const body: ConsoleTask = {
      id: one.id,
      kind: 'console',
      recover_task_id: recoverTaskId(job.id),
      manager: { host: config.advertisedHost, port: this.#port() },
    };
    // Of managers that were killed, whose agents were refused long ago.
    await dropConsoleTasks(db, clock.now() - CONSOLE_TASK_LIFE_MS);
    await addTask(db, { id: one.id, member_id: host.id, job_id: null, body, created_ms: clock.now() });
    changes.notify('orders');
    return one;
  }

  async #arrival(one: Console, signal: AbortSignal): Promise<void> {
    const { changes, clock, db } = this.#context;
    const endMs = clock.monotonicMs() + CONSOLE_ARRIVE_MS;
    const news = AbortSignal.any([signal, one.came.signal, one.over.signal]);
    for (;;) {
      const next = changes.next(['jobs'], LOOK_EVERY_MS, news);
      if (one.screen !== undefined) return;
      const failure = (await findTask(db, one.id))?.report?.failure;
      if (failure !== null && failure !== undefined) {
        const code = isFailureCode(failure.code) ? failure.code : 'tool_failed';
        throw new Failure(code, failure.message, failure.hint === null ? {} : { hint: failure.hint });
      }
      if (signal.aborted || one.over.signal.aborted)
        throw new Failure('cancelled', `open the console of VM ${one.job.request.name}`);
      if (clock.monotonicMs() >= endMs) {
        const message = `host ${one.host.name} has not brought the screen of VM ${one.job.request.name} in time`;
        throw new Failure('timeout', message, {
          hint: 'Look whether its agent runs, and reaches this manager at the address that it advertises.',
        });
      }
      await next;
    }
  }

  async #job(id: string): Promise<Job> {
    const job = await findJob(this.#context.db, id);
    if (job !== undefined) return job;
    throw new Failure('not_found', `there is no recovery ${id}`, {
      hint: 'List them with: antipode recoveries',
    });
  }

  /** Throws conflict, unreachable. Whether the VM runs and has a screen is known best by the agent. */
  #hostOf(job: Job): AgentMember {
    const { inventory } = this.#context;
    const { host_id: id, name } = job.request;
    if (job.state === 'cleaning' || job.state === 'cleaned') {
      throw new Failure('conflict', `VM ${name} is gone: its recovery was cleaned up`);
    }
    const host = inventory.agent(id);
    if (host === undefined) throw new Failure('unreachable', `the host of VM ${name} has left this site`);
    if (inventory.isFresh(host)) return host;
    throw new Failure(
      'unreachable',
      `host ${host.name} has not reported lately, so its screens are out of reach`,
      {
        hint: 'Look whether the host is up and its agent runs.',
      },
    );
  }

  #find(id: string): Console {
    const one = this.#consoles.get(id);
    if (one === undefined) throw unknownConsole(id);
    return one;
  }

  /** Once for each. */
  #end(one: Console, why: string): void {
    if (!this.#consoles.delete(one.id)) return;
    clearTimeout(one.fetch);
    one.over.abort();
    one.screen?.destroy();
    void this.#recordEnd(one, why)
      .catch((error: unknown) => {
        this.#context.log.error('console.end_unrecorded', { console: one.id, ...failureFields(error) });
      })
      .finally(() => one.ended.resolve());
  }

  async #recordEnd(one: Console, why: string): Promise<void> {
    const { changes, clock, db } = this.#context;
    const { address, by, name: actor } = one.who;
    const seconds = Math.round((clock.now() - one.openedMs) / 1000);
    const subject = `vm=${one.job.request.name} host=${one.host.name} seconds=${seconds}: ${why}`;
    try {
      const action = 'console closed';
      await this.#audit.end({ actor, by, address, action, subject, reason: null }, 'ok', null);
    } finally {
      await dropTask(db, one.id);
      changes.notify('orders');
    }
  }
}

/** Longer than any session lasts. */
const CONSOLE_TASK_LIFE_MS = 86_400_000;

function unknownConsole(id: string): Failure {
  return new Failure('not_found', `there is no console ${id} to be taken`, {
    hint: 'It is for who asked for it, once, at the manager that was asked. Open it again.',
  });
}
