/**
 * The steps of a migration that are done at the protected site, over its manager, for as long as they are worth
 * waiting for. What they order follows from the job, so that a step that is repeated orders nothing twice.
 */
import type { FailureReport } from '#/control/reports.ts';
import type { Context } from './context.ts';
import type { StepName } from './recovery-plan.ts';
import type { StepOutcome } from './runs/ports.ts';
import type { PeerSourceCopies } from './source-copies.ts';
import type { Job } from './store/job-store.ts';
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';

/** A link that is away for a moment takes no migration back. */
const PATIENCE_MS = 60_000;
/** The last changes of a VM that replicates all the time travel in seconds; a moment is not held for days. */
const LAST_CYCLE_MS = 3_600_000;

export type SourceStep = 'shut_down_source' | 'last_cycle' | 'start_source';

export function isAtSource(name: StepName): name is SourceStep {
  return name === 'shut_down_source' || name === 'last_cycle' || name === 'start_source';
}

const shutDownId = (job: Job): string => `${job.id}-shut`;

export class HandoverSteps {
  readonly #context: Context;
  readonly #sources: PeerSourceCopies;

  constructor(context: Context, sources: PeerSourceCopies) {
    this.#context = context;
    this.#sources = sources;
  }

  async carryOut(
    job: Job,
    step: { name: SourceStep; position: number; startedMs: number },
  ): Promise<StepOutcome> {
    switch (step.name) {
      case 'shut_down_source':
        return this.#shutDown(job, step.startedMs);
      case 'last_cycle':
        return this.#lastCycle(job, step.startedMs);
      case 'start_source':
        return this.#startSource(job, step.position, step.startedMs);
    }
  }

  async #shutDown(job: Job, startedMs: number): Promise<StepOutcome> {
    const { shut_down: mode, shut_down_timeout_ms: timeoutMs } = job.request;
    return this.#within(job, { startedMs, limitMs: timeoutMs + PATIENCE_MS }, (replica) =>
      this.#sources.shutDown(shutDownId(job), replica, { mode, timeoutMs }),
    );
  }

  async #lastCycle(job: Job, startedMs: number): Promise<StepOutcome> {
    return this.#within(job, { startedMs, limitMs: LAST_CYCLE_MS }, (replica) =>
      this.#sources.lastCycle(`${job.id}-last`, replica),
    );
  }

  /**
   * The VM is as it was at the protected site. While the migration takes itself back that is tried until the site
   * answers; a cleanup is ended by a person, who reads what is left to do.
   */
  async #startSource(job: Job, position: number, startedMs: number): Promise<StepOutcome> {
    const replica = await this.#replica(job);
    if (replica === undefined) return { state: 'done', note: 'the replica was deleted meanwhile' };
    const isGivenBack = job.steps.some(({ name }) => name === 'raise_epoch');
    const id = `${job.id}-start-${position}`;
    const outcome = await this.#sources.startAgain(id, replica, shutDownId(job), isGivenBack);
    if (outcome.state !== 'failed') return outcome;
    const { code, message } = outcome.failure;
    const isEarly = this.#context.clock.now() - startedMs < PATIENCE_MS;
    // A site that has not heard yet that the VM is gone here will in a moment.
    const mayCome = code === 'unreachable' || (code === 'conflict' && isEarly);
    if (mayCome && (isEarly || job.state === 'running')) return { state: 'waiting', note: message };
    if (job.state === 'running') return outcome;
    return { state: 'done', note: `WARNING, start it at the protected site by hand: ${message}` };
  }

  async #within(
    job: Job,
    time: { startedMs: number; limitMs: number },
    ask: (replica: ReplicaRecord) => Promise<StepOutcome>,
  ): Promise<StepOutcome> {
    const replica = await this.#replica(job);
    if (replica === undefined) return failed('not_found', 'the replica was deleted meanwhile');
    const outcome = await ask(replica);
    const tookMs = this.#context.clock.now() - time.startedMs;
    if (outcome.state === 'failed' && outcome.failure.code === 'unreachable' && tookMs < PATIENCE_MS) {
      return { state: 'waiting', note: outcome.failure.message };
    }
    if (outcome.state !== 'waiting' || tookMs < time.limitMs) return outcome;
    const seconds = Math.round(time.limitMs / 1000);
    return failed(
      'timeout',
      `not done within ${seconds} s: ${outcome.note ?? 'the protected site does not say why'}`,
    );
  }

  async #replica(job: Job): Promise<ReplicaRecord | undefined> {
    return (await listReplicas(this.#context.db)).find(({ id }) => id === job.replica_id);
  }
}

function failed(code: FailureReport['code'], message: string): StepOutcome {
  return { state: 'failed', failure: { code, message, hint: null } };
}
