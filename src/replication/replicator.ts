/**
 * Replicates one VM to one replica for as long as it is told to: cycles by the RPO law, tries again after failures,
 * tells how it stands. What it tells is what happened: a point counts from its acknowledgement on (I7). Pure.
 */
import type { FileSystem } from '#/disk/file-system.ts';
import { describe, Failure, failureIn, hasCode } from '#/lib/failure.ts';
import type { BaselineStore } from './baseline.ts';
import { runCycle, type CycleContext, type CycleProgress, type CycleResult } from './cycle.ts';
import type { CycleGate } from './cycle-gate.ts';
import { ReplicaRecord } from './replica-record.ts';
import { retryDelayMs, RpoLaw, type RpoEvent } from './rpo-law.ts';

export type ReplicatorState =
  | 'starting'
  | 'first_copy'
  | 'replicating'
  | 'comparing'
  | 'waiting'
  | 'failing'
  | 'stopped';

export type ReplicatorStatus = {
  state: ReplicatorState;
  /** The newest acknowledged point. */
  point: { sequence: number; momentMs: number } | undefined;
  lastCycle: CycleResult | undefined;
  progress: CycleProgress | undefined;
  failure: Failure | undefined;
};

export type ReplicatorEvent =
  | RpoEvent
  | { kind: 'first_copy_ended'; atMs: number; momentMs: number }
  /** Tracking was lost: everything was read, and only what differs was sent. */
  | { kind: 'compared'; atMs: number; momentMs: number }
  /** The first cycle of a VM that was recovered here, towards the site that it came from. */
  | { kind: 'returned'; atMs: number; momentMs: number; readBytes: number; changedBytes: number }
  | { kind: 'failing_began'; atMs: number; failure: Failure }
  | { kind: 'failing_ended'; atMs: number };

/** What may be changed while it runs. */
export type ReplicatorOrder = { rpoMs: number; disks: string[]; scratchBytes: number };

export type ReplicatorOptions = Pick<CycleContext, 'source' | 'link' | 'codec' | 'clock' | 'random'> & {
  fs: FileSystem;
  /** Of the record, within `fs`. */
  directory: string;
  replicaId: string;
  order: ReplicatorOrder;
  gate: CycleGate;
  baseline?: BaselineStore;
  onEvent: (event: ReplicatorEvent) => void;
  onChange?: () => void;
  /** The disks of the next cycle, when the order alone does not say; gets those of the record. */
  chooseDisks?: (order: ReplicatorOrder, recorded: string[]) => string[];
};

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #law: RpoLaw;
  #order: ReplicatorOrder;
  #status: ReplicatorStatus = {
    state: 'starting',
    point: undefined,
    lastCycle: undefined,
    progress: undefined,
    failure: undefined,
  };
  #record: ReplicaRecord | undefined;
  #failures = 0;
  /** Cycles begun so far, and who waits for the first good one after a number of them. */
  #begun = 0;
  readonly #waiting = new Set<{ after: number; end: PromiseWithResolvers<CycleResult> }>();
  #wakeUp = new AbortController();

  constructor(options: ReplicatorOptions) {
    this.#options = options;
    this.#order = options.order;
    this.#law = new RpoLaw(options.order.rpoMs);
  }

  get status(): Readonly<ReplicatorStatus> {
    return this.#status;
  }

  /** Takes a changed order; the next cycle follows it. */
  change(order: ReplicatorOrder): void {
    this.#order = order;
    this.#law.setRpo(order.rpoMs);
    this.trigger();
  }

  /** Starts the next cycle now. */
  trigger(): void {
    this.#wakeUp.abort();
  }

  /**
   * Starts a cycle now, and resolves with the first one that begins after this call and comes to its point; those that
   * fail are tried again as always. Rejects with the signal's reason, and `cancelled` when replication is stopped.
   */
  async nextCycle(signal: AbortSignal): Promise<CycleResult> {
    signal.throwIfAborted();
    if (this.#status.state === 'stopped') throw new Failure('cancelled', 'replication was stopped');
    const waiting = { after: this.#begun, end: Promise.withResolvers<CycleResult>() };
    const abort = (): void => waiting.end.reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    this.#waiting.add(waiting);
    this.trigger();
    try {
      return await waiting.end.promise;
    } finally {
      signal.removeEventListener('abort', abort);
      this.#waiting.delete(waiting);
    }
  }

  /** Runs until the signal aborts; resolves then. Rejects only for what a bug causes. */
  async run(signal: AbortSignal): Promise<void> {
    const watching = new AbortController();
    const watch = this.#watchLaw(AbortSignal.any([signal, watching.signal]));
    try {
      while (!signal.aborted) await this.#turn(signal);
    } finally {
      watching.abort();
      await watch;
      await this.#closeRecord();
      for (const { end } of this.#waiting) end.reject(new Failure('cancelled', 'replication was stopped'));
      this.#set({ state: 'stopped', progress: undefined });
    }
  }

  /** Waits for the law, runs a cycle, learns from what came of it. */
  async #turn(signal: AbortSignal): Promise<void> {
    try {
      const record = await this.#openRecord();
      const startMs = this.#failures > 0 ? -Infinity : this.#law.nextStartMs(this.#options.clock.now());
      await this.#sleepUntil(startMs, signal);
      if (signal.aborted) return;
      const result = await this.#cycle(record, signal);
      if (result !== undefined) this.#succeeded(result.cycle, result.durationMs);
    } catch (error) {
      if (signal.aborted) return;
      const failure = failureIn(error);
      if (failure === undefined) throw error;
      await this.#failed(failure, error);
      const { clock } = this.#options;
      const nowMs = clock.now();
      await this.#sleepUntil(nowMs + retryDelayMs(this.#failures, this.#law, nowMs), signal);
    }
  }

  async #cycle(
    record: ReplicaRecord,
    signal: AbortSignal,
  ): Promise<{ cycle: CycleResult; durationMs: number } | undefined> {
    const { source, link, codec, clock, random, gate, chooseDisks, baseline } = this.#options;
    const wantedAt = clock.monotonicMs();
    const isDelta = record.state.head !== undefined && record.state.tracking !== undefined;
    using _place = await gate.enter(isDelta ? 'delta' : 'whole', this.#law.deadlineMs() ?? Infinity, signal);
    this.#wakeUp = new AbortController();
    this.#set({ state: record.state.head === undefined ? 'first_copy' : 'replicating', progress: undefined });
    const recorded = record.state.disks.map(({ key }) => key);
    const disks = chooseDisks?.(this.#order, recorded) ?? this.#order.disks;
    const { scratchBytes } = this.#order;
    const onProgress = (progress: CycleProgress): void => this.#progressed(progress);
    const ports = { source, link, record, codec, clock, random, ...(baseline && { baseline }) };
    const context = { ...ports, disks, scratchBytes, onProgress };
    const number = ++this.#begun;
    const cycle = await runCycle(context, signal);
    for (const { after, end } of this.#waiting) if (after < number) end.resolve(cycle);
    return { cycle, durationMs: clock.monotonicMs() - wantedAt };
  }

  #progressed(progress: CycleProgress): void {
    const state = progress.isFirstCopy ? 'first_copy' : progress.isComparing ? 'comparing' : 'replicating';
    this.#set({ state, progress: { ...progress } });
  }

  #succeeded(cycle: CycleResult, durationMs: number): void {
    const atMs = this.#options.clock.now();
    const { momentMs } = cycle;
    const isMeasure = !cycle.isFirstCopy && !cycle.isComparing;
    for (const event of this.#law.acknowledged(momentMs, atMs, isMeasure ? durationMs : undefined)) {
      this.#options.onEvent(event);
    }
    if (cycle.isFirstCopy) this.#options.onEvent({ kind: 'first_copy_ended', atMs, momentMs });
    else if (cycle.isComparing) this.#options.onEvent({ kind: 'compared', atMs, momentMs });
    else if (cycle.isFromBaseline) {
      const { readBytes, changedBytes } = cycle;
      this.#options.onEvent({ kind: 'returned', atMs, momentMs, readBytes, changedBytes });
    }
    if (this.#failures > 0) this.#options.onEvent({ kind: 'failing_ended', atMs });
    this.#failures = 0;
    const point = { sequence: cycle.point.sequence, momentMs };
    this.#set({ state: 'waiting', point, lastCycle: cycle, progress: undefined, failure: undefined });
  }

  async #failed(failure: Failure, error: unknown): Promise<void> {
    this.#failures++;
    if (this.#failures === 1) {
      this.#options.onEvent({ kind: 'failing_began', atMs: this.#options.clock.now(), failure });
    }
    this.#set({ state: 'failing', failure, progress: undefined });
    // The files may be in another state than the record in memory believes.
    const isLocal = ['storage_io', 'storage_full', 'storage_corrupt'].includes(failure.code);
    if (isLocal || hasCode(error, 'conflict')) await this.#closeRecord();
  }

  async #openRecord(): Promise<ReplicaRecord> {
    if (this.#record !== undefined) return this.#record;
    const { fs, directory, replicaId, clock } = this.#options;
    const record = await ReplicaRecord.open(fs, directory, replicaId);
    this.#record = record;
    const { head } = record.state;
    if (head !== undefined && this.#law.momentMs === undefined) {
      for (const event of this.#law.acknowledged(head.momentMs, clock.now(), undefined)) {
        this.#options.onEvent(event);
      }
      this.#set({ point: { sequence: head.sequence, momentMs: head.momentMs } });
    }
    return record;
  }

  async #closeRecord(): Promise<void> {
    const record = this.#record;
    this.#record = undefined;
    await record?.[Symbol.asyncDispose]();
  }

  /** Tells of violations at the time they begin, also while a cycle is under way. */
  async #watchLaw(signal: AbortSignal): Promise<void> {
    const { clock, onEvent } = this.#options;
    while (!signal.aborted) {
      for (const event of this.#law.look(clock.now())) onEvent(event);
      const deadlineMs = this.#law.deadlineMs() ?? Infinity;
      const untilMs = deadlineMs - clock.now();
      const waitMs = untilMs > 0 ? Math.min(untilMs, WATCH_MS) : WATCH_MS;
      await clock.sleep(waitMs, signal).catch(() => undefined);
    }
  }

  /** Until that wall time, a trigger, or the end. */
  async #sleepUntil(wallMs: number, signal: AbortSignal): Promise<void> {
    const waitMs = wallMs - this.#options.clock.now();
    if (waitMs <= 0) return;
    // A wall clock that is set back must not stop replication for longer than the RPO.
    const boundedMs = Math.min(waitMs, this.#law.rpoMs + 60_000);
    const wake = AbortSignal.any([signal, this.#wakeUp.signal]);
    await this.#options.clock.sleep(boundedMs, wake).catch(() => undefined);
  }

  #set(change: Partial<ReplicatorStatus>): void {
    this.#status = { ...this.#status, ...change };
    this.#options.onChange?.();
  }
}

/** How often the law is looked at while nothing is due; a changed RPO is noticed within this time. */
const WATCH_MS = 1000;

/** One line for a log. */
export function describeEvent(event: ReplicatorEvent): string {
  const at = `at ${event.atMs}`;
  return event.kind === 'failing_began'
    ? `${event.kind} ${at}: ${describe(event.failure)}`
    : `${event.kind} ${at}`;
}
