/**
 * The protected site's copies, asked through its manager (src/api/handovers.ts), as a planned migration needs them.
 *
 * No call waits for the other site: it is asked in the background, and its answer is told by the next call of the same
 * id, for which the jobs are woken. So one site that is silent holds up nothing of another.
 */
import { Check } from 'typebox/value';
import { HandoverAnswer, type HandoverRequest } from '#/api/handovers.ts';
import { FinalPoint } from '#/control/handover-tasks.ts';
import { failureIn } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import { proveEqual } from './handover-proof.ts';
import { HANDOVER_WAIT_MS, PEER_TIMEOUT_MS } from './limits.ts';
import type { Peers } from './peers.ts';
import { problemOf } from './problem.ts';
import type { SourceCopies, StepOutcome } from './runs/ports.ts';
import type { ReplicaRecord } from './store/replica-store.ts';

/** An answer that nobody came for is forgotten after this: asking again brings it anew. */
const KEPT_MS = 60_000;

type Request = HandoverRequest extends infer Each
  ? Each extends unknown
    ? Omit<Each, 'vm_uuid' | 'replica_id' | 'wait_ms'>
    : never
  : never;
type Asking = { beganMs: number; answer?: HandoverAnswer };

export class PeerSourceCopies implements SourceCopies {
  readonly #context: Context;
  readonly #peers: Peers;
  readonly #asking = new Map<string, Asking>();

  constructor(context: Context, peers: Peers) {
    this.#context = context;
    this.#peers = peers;
  }

  async shutDown(
    id: string,
    replica: ReplicaRecord,
    how: { mode: 'guest' | 'power_off'; timeoutMs: number },
  ): Promise<StepOutcome> {
    const answer = this.#ask(replica, { id, kind: 'shut_down', mode: how.mode, timeout_ms: how.timeoutMs });
    const outcome = outcomeOf(answer);
    if (outcome.state !== 'done') return outcome;
    const wasActive = outcome.result?.['was_active'] === true;
    return { ...outcome, note: wasActive ? 'it was shut down' : 'it was off already' };
  }

  async lastCycle(id: string, replica: ReplicaRecord): Promise<StepOutcome> {
    const outcome = outcomeOf(this.#ask(replica, { id, kind: 'last_cycle' }));
    return outcome.state === 'done' ? this.#prove(replica, outcome.result) : outcome;
  }

  /** `isGivenBack`: this site has claimed the VM, runs no copy of it, and leaves it to the other again. */
  async startAgain(
    id: string,
    replica: ReplicaRecord,
    shutDownId: string,
    isGivenBack = false,
  ): Promise<StepOutcome> {
    const request = { id, kind: 'start_again', shut_down_id: shutDownId, give_back: isGivenBack } as const;
    const outcome = outcomeOf(this.#ask(replica, request));
    if (outcome.state !== 'done') return outcome;
    const isStarted = outcome.result?.['started'] === true;
    return { ...outcome, note: isStarted ? 'it was started again' : 'it is as it was before' };
  }

  #prove(replica: ReplicaRecord, result: unknown): StepOutcome {
    if (!Check(FinalPoint, result)) {
      const message = 'the protected site tells of its last point in a form not known here';
      const hint = 'Run the same version of Antipode at both sites.';
      return { state: 'failed', failure: { code: 'protocol_unsupported', message, hint } };
    }
    const { report } = this.#context.inventory.replicaReport(replica.server_id, replica.id);
    const proof = proveEqual(result, report?.points ?? []);
    switch (proof.kind) {
      case 'not_told':
        return {
          state: 'waiting',
          note: `the replication server has not told of point ${result.sequence} yet`,
        };
      case 'differs': {
        const message = `the last point of ${replica.vm_name} is not the same at both sites: ${proof.message}`;
        return { state: 'failed', failure: { code: 'conflict', message, hint: null } };
      }
      case 'equal':
        return {
          state: 'done',
          note: `point ${proof.sequence} is equal at both sites, all ${result.disks.length} disks`,
          result: { sequence: proof.sequence, moment_ms: proof.momentMs },
        };
    }
  }

  /** What was answered since the last call; undefined while nothing was. */
  #ask(replica: ReplicaRecord, request: Request): HandoverAnswer | undefined {
    const { clock } = this.#context;
    const nowMs = clock.monotonicMs();
    const known = this.#asking.get(request.id);
    if (known?.answer !== undefined) {
      this.#asking.delete(request.id);
      if (nowMs - known.beganMs < KEPT_MS) return known.answer;
    } else if (known !== undefined) return undefined;
    for (const [id, old] of this.#asking) {
      if (old.answer !== undefined && nowMs - old.beganMs > KEPT_MS) this.#asking.delete(id);
    }
    const asking: Asking = { beganMs: nowMs };
    this.#asking.set(request.id, asking);
    void this.#call(replica, request).then((answer) => {
      asking.answer = answer;
      this.#context.changes.notify('jobs');
    });
    return undefined;
  }

  /** Never rejects. */
  async #call(replica: ReplicaRecord, request: Request): Promise<HandoverAnswer> {
    try {
      const peer = await this.#peers.find(replica.source_site_id);
      const about = { vm_uuid: replica.vm_uuid, replica_id: replica.id, wait_ms: HANDOVER_WAIT_MS };
      const body = { ...request, ...about };
      const timeoutMs = HANDOVER_WAIT_MS + PEER_TIMEOUT_MS;
      const options = { method: 'POST', path: '/peer/v1/handovers', body, timeoutMs } as const;
      return await this.#peers.call(peer, options, HandoverAnswer);
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined) this.#context.log.error('handover.bug', { reason: String(error) });
      const problem = failure === undefined ? BUG : problemOf(failure);
      const code = failure?.retry === 'reconnect' ? 'unreachable' : problem.code;
      return { state: 'failed', note: null, result: null, failure: { ...problem, code } };
    }
  }
}

const BUG = { code: 'tool_failed', message: 'the protected site was not asked: see the log', hint: null };

function outcomeOf(answer: HandoverAnswer | undefined): StepOutcome {
  if (answer === undefined) return { state: 'waiting' };
  const { failure, note, result, state } = answer;
  if (state === 'waiting') return note === null ? { state } : { state, note };
  if (state === 'failed') return { state, failure: failure ?? BUG };
  return { state, ...(note === null ? {} : { note }), ...(result === null ? {} : { result }) };
}
