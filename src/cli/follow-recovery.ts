/** Follows a recovery to its end and tells each step once, as it ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RecoveryView } from '#/api/recoveries.ts';
import { Failure, failureIn, isFailureCode } from '#/lib/failure.ts';
import { say } from './command.ts';
import { bytes, duration } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { printable } from './table.ts';

const SETTLED = ['ready', 'done', 'failed', 'cleaned'];
const LOOK_EVERY_MS = 5000;
/** A manager that is silent for so long is no longer waited for. */
const PATIENCE_MS = 10 * 60_000;
const RETRY_MS = 1000;
/** Without a terminal a line of progress is printed for each so many percent. */
const PROGRESS_STEP = 10;

/**
 * Resolves with the recovery once it is ready, done, failed or cleaned. A manager that goes away meanwhile is waited
 * for: it goes on with the recovery when it is back. So it does when the user interrupts, which throws `cancelled`.
 */
export async function followRecovery(
  api: ManagerApi,
  first: RecoveryView,
  options: { isQuiet: boolean; signal: AbortSignal },
): Promise<RecoveryView> {
  const teller = new Teller(options.isQuiet);
  let view = first;
  let lastAnswerMs = Date.now();
  teller.tell(view);
  while (!SETTLED.includes(view.state)) {
    try {
      for await (const next of views(api, view.id, options.signal)) {
        view = next;
        lastAnswerMs = Date.now();
        teller.tell(view);
        if (SETTLED.includes(view.state)) break;
      }
    } catch (error) {
      if (failureIn(error)?.retry !== 'reconnect' || Date.now() - lastAnswerMs > PATIENCE_MS) throw error;
      await sleep(RETRY_MS, undefined, { signal: options.signal }).catch(() => {});
    }
    if (!options.signal.aborted) continue;
    throw new Failure('cancelled', `no longer following recovery ${view.id}, which goes on`, {
      hint: `Look at it with: antipode recoveries ${view.id}. Take it back with: antipode cleanup ${view.id}`,
    });
  }
  return view;
}

/** The recovery as it is, whenever something changed, and every few seconds in case a message was lost. */
async function* views(api: ManagerApi, id: string, signal: AbortSignal): AsyncGenerator<RecoveryView> {
  const either = AbortSignal.any([signal, AbortSignal.timeout(LOOK_EVERY_MS)]);
  for await (const _ of api.stream(undefined, either)) yield await api.get<RecoveryView>(`/recoveries/${id}`);
}

/** Throws the recovery's failure as the manager recorded it. */
export function throwIfFailed(view: RecoveryView): void {
  // A migration that took itself back has nothing left to clean up.
  const isTakenBack = view.state === 'cleaned' && view.failure !== null;
  if (view.state !== 'failed' && !isTakenBack) return;
  const { code, message, hint } = view.failure ?? { code: '', message: 'for an unknown reason', hint: null };
  const what = view.purpose === 'migration' ? 'migration' : 'recovery';
  const rest = view.purpose === 'migration' ? GIVE_BACK : 'What it made is still there; take it down with:';
  // It came up, so it is more likely to be helped than to be taken down.
  const isUp = view.purpose !== 'test' && typeof view.result?.['vm_uuid'] === 'string';
  const goOn = isUp ? `Its VM came up: go on with: antipode retry ${view.id}. ` : '';
  const wayOut = isTakenBack ? '' : `${goOn}${rest} antipode cleanup ${view.id}`;
  const hints = [hint ?? '', wayOut].filter((text) => text !== '').join(' ');
  const text = `${what} ${view.id} failed: ${message}`;
  const options = hints === '' ? {} : { hint: hints };
  throw new Failure(isFailureCode(code) ? code : 'tool_failed', text, options);
}

const GIVE_BACK = 'Take it down here, and have it run again where it was, with:';
/** Steps that say what holds them up. */
const AT_THE_SOURCE = ['shut_down_source', 'last_cycle', 'start_source'];

class Teller {
  readonly #isQuiet: boolean;
  readonly #told = new Set<string>();

  constructor(isQuiet: boolean) {
    this.#isQuiet = isQuiet;
  }

  tell(view: RecoveryView): void {
    for (const step of view.steps) {
      for (const [index, detail] of step.details.entries()) {
        const isHeldUp = detail.ended_ms === null && AT_THE_SOURCE.includes(step.name);
        if (isHeldUp) this.#once(`${step.name} ${detail.name}`, `    ${detail.name}`);
        if (detail.ended_ms === null) continue;
        const took = duration(detail.ended_ms - detail.started_ms);
        const note = detail.note === null ? '' : `: ${detail.note}`;
        this.#once(`${step.name} ${index}`, `    ${detail.name} (${took})${note}`);
      }
      if (step.progress !== null && step.state === 'running' && step.progress.total_bytes > 0) {
        const { done_bytes: done, total_bytes: total } = step.progress;
        const percent = Math.floor((done / total) * (100 / PROGRESS_STEP)) * PROGRESS_STEP;
        this.#once(`${step.name} ${percent} %`, `    ${percent} % of ${bytes(total)}`);
      }
      if (step.ended_ms === null) continue;
      const took = duration(step.ended_ms - step.started_ms);
      const outcome = step.failure === null ? 'done' : `failed: ${step.failure.message}`;
      this.#once(
        `${step.name} ${step.started_ms}`,
        `  ${step.name.replaceAll('_', ' ')}: ${outcome} (${took})`,
      );
    }
  }

  #once(key: string, text: string): void {
    if (this.#told.has(key)) return;
    this.#told.add(key);
    if (!this.#isQuiet) say(printable(text));
  }
}
