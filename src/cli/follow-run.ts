/** Follows a run of a plan to its end, and tells each step once, as it ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { RunStepView, RunView } from '#/api/runs.ts';
import { Failure, failureIn, isFailureCode } from '#/lib/failure.ts';
import { say } from './command.ts';
import { duration } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { printable } from './table.ts';

const SETTLED = ['ready', 'done', 'failed', 'cancelled', 'cleaned'];
const LOOK_EVERY_MS = 5000;
/** A manager that is silent for so long is no longer waited for. */
const PATIENCE_MS = 10 * 60_000;
const RETRY_MS = 1000;

/** Resolves with the run once it has settled. A manager that goes away meanwhile is waited for. */
export async function followRun(
  api: ManagerApi,
  first: RunView,
  options: { isQuiet: boolean; signal: AbortSignal; site: string },
): Promise<RunView> {
  const teller = new Teller(options);
  let view = first;
  let lastAnswerMs = Date.now();
  teller.tell(view);
  while (!SETTLED.includes(view.state)) {
    try {
      const either = AbortSignal.any([options.signal, AbortSignal.timeout(LOOK_EVERY_MS)]);
      for await (const _ of api.stream(undefined, either)) {
        view = await api.get<RunView>(`/runs/${view.id}`);
        lastAnswerMs = Date.now();
        teller.tell(view);
        if (SETTLED.includes(view.state)) break;
      }
    } catch (error) {
      if (failureIn(error)?.retry !== 'reconnect' || Date.now() - lastAnswerMs > PATIENCE_MS) throw error;
      await sleep(RETRY_MS, undefined, { signal: options.signal }).catch(() => {});
    }
    if (!options.signal.aborted) continue;
    throw new Failure('cancelled', `no longer following run ${view.id}, which goes on`, {
      hint: `Look at it with: antipode runs ${view.id}. End it with: antipode plan cancel ${view.id}`,
    });
  }
  return view;
}

/** Throws the run's failure as the manager recorded it. */
export function throwIfRunFailed(view: RunView): void {
  if (view.failure === null) return;
  const { code, message, hint } = view.failure;
  const out =
    view.state === 'cleaned'
      ? 'What was done is undone: the VMs are at their protected site as before.'
      : `See every step with: antipode runs ${view.id}. Go on with: antipode plan resume ${view.id}`;
  const cleanup =
    view.kind === 'test' && view.state === 'failed' ? `, or: antipode plan cleanup ${view.id}` : '';
  throw new Failure(isFailureCode(code) ? code : 'tool_failed', `run ${view.id} failed: ${message}`, {
    hint: `${hint ?? ''} ${out}${cleanup}`.trim(),
  });
}

class Teller {
  readonly #isQuiet: boolean;
  readonly #site: string;
  readonly #told = new Set<string>();

  constructor(options: { isQuiet: boolean; site: string }) {
    this.#isQuiet = options.isQuiet;
    this.#site = options.site;
  }

  tell(view: RunView): void {
    for (const step of view.steps ?? []) this.#tellStep(view, step);
    if (view.up_ms === null || view.kind === 'test' || view.state !== 'running') return;
    const took = duration(view.up_ms - view.created_ms);
    this.#once('up', `  all steps of the plan are over after ${took}; disks are still being pulled`);
  }

  #tellStep(view: RunView, step: RunStepView): void {
    const { key, attempts, name, state } = step;
    if (step.kind === 'message' && state === 'running') {
      this.#once(
        `${key} ${attempts} asks`,
        `  ${name}: waits for you: antipode plan answer ${view.id} ${key}${this.#site}`,
      );
    }
    if (step.failure !== null) {
      const again = state === 'waiting' ? ' (it is tried again)' : '';
      this.#once(`${key} ${attempts} failed`, `  ${name}: failed: ${step.failure.message}${again}`);
    }
    if (step.ended_ms === null || state !== 'done') return;
    const took = duration(step.ended_ms - (step.started_ms ?? step.ended_ms));
    const note = step.note === null ? '' : `: ${step.note}`;
    this.#once(`${key} ${attempts}`, `  ${name} (${took})${note}`);
  }

  #once(key: string, text: string): void {
    if (this.#told.has(key)) return;
    this.#told.add(key);
    if (!this.#isQuiet) say(printable(text));
  }
}
