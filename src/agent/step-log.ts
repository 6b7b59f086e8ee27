/** The steps of a task, as its report shows them: what began when, what ended when, and what was worth noting. */
import type { TaskReport } from '#/control/reports.ts';
import type { Clock } from '#/lib/clock.ts';
import { describe } from '#/lib/failure.ts';

type Step = TaskReport['steps'][number];

/** Most steps a report keeps; a task that is retried for long forgets its oldest. */
const STEPS_MAX = 64;
const NOTE_LENGTH_MAX = 1000;

export type Note = (text: string | null) => void;

export class StepLog {
  readonly #clock: Clock;
  readonly #changed: () => void;
  #steps: Step[] = [];
  #progress: TaskReport['progress'] = null;

  /** `changed` is called after every change: the place to send a report. */
  constructor(clock: Clock, changed: () => void) {
    this.#clock = clock;
    this.#changed = changed;
  }

  get steps(): readonly Step[] {
    return this.#steps;
  }

  get progress(): TaskReport['progress'] {
    return this.#progress;
  }

  setProgress(doneBytes: number, totalBytes: number): void {
    this.#progress = { done_bytes: doneBytes, total_bytes: totalBytes };
    this.#changed();
  }

  /**
   * Runs a step between its two records; a failure is noted on it and passed on. `work` may note on its step what
   * holds it up, and with null that nothing does any more.
   */
  async run<T>(name: string, work: (note: Note) => Promise<T>): Promise<T> {
    const step: Step = { name, started_ms: this.#clock.now(), ended_ms: null, note: null };
    this.#steps = [...this.#steps, step].slice(-STEPS_MAX);
    this.#changed();
    const note: Note = (text) => {
      const cut = text?.slice(0, NOTE_LENGTH_MAX) ?? null;
      if (cut === step.note) return;
      step.note = cut;
      this.#changed();
    };
    try {
      return await work(note);
    } catch (error) {
      step.note = describe(error).slice(0, NOTE_LENGTH_MAX);
      throw error;
    } finally {
      step.ended_ms = this.#clock.now();
      this.#changed();
    }
  }
}
