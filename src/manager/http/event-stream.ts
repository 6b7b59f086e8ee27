/**
 * The live stream of events (server-sent events). Each has its sequence as id, so a client that comes back with
 * `Last-Event-ID` misses none. The database is the buffer: a reader that is slow is read for slowly, and one that
 * takes nothing for half a minute is closed.
 *
 * Besides events there are `change` messages without an id, which say that something that has no event of its own,
 * such as a job's progress or what programs report, is worth another look. They may be left out.
 */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import type { EventView } from '#/api/events.ts';
import { Failure } from '#/lib/failure.ts';
import {
  STREAMS_MAX,
  STREAM_HEARTBEAT_MS,
  STREAM_REPORTS_EVERY_MS,
  STREAM_STALL_MS,
} from '#/manager/limits.ts';
import type { Manager } from '#/manager/manager.ts';
import { eventsAfter, newestSequence, type EventRow } from '#/manager/store/event-store.ts';
import { StreamAnswer } from './route.ts';

const BATCH = 100;
let open = 0;

/** `after` undefined streams only what happens from now on. Throws limit_exceeded. */
export async function eventStream(manager: Manager, after: number | undefined): Promise<StreamAnswer> {
  if (open >= STREAMS_MAX) {
    throw new Failure('limit_exceeded', `${STREAMS_MAX} streams of events are open already`);
  }
  const from = after ?? (await newestSequence(manager.context.db));
  return new StreamAnswer(async (output, signal) => {
    open++;
    try {
      await stream(manager, output, { from, signal: AbortSignal.any([signal, manager.stopping]) });
    } finally {
      open--;
      output.destroy();
    }
  });
}

async function stream(
  manager: Manager,
  output: ServerResponse,
  { from, signal }: { from: number; signal: AbortSignal },
): Promise<void> {
  const { clock, db } = manager.context;
  const kinds = changedKinds(manager);
  output.writeHead(200, {
    'content-type': 'text/event-stream',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  let sequence = from;
  try {
    let heartbeatMs = clock.monotonicMs();
    while (!signal.aborted) {
      const news = kinds.next(signal);
      const events = await eventsAfter(db, sequence, BATCH);
      let text = events.map(message).join('');
      for (const kind of kinds.take()) text += `event: change\ndata: {"kind":"${kind}"}\n\n`;
      const nowMs = clock.monotonicMs();
      if (text === '' && nowMs - heartbeatMs >= STREAM_HEARTBEAT_MS) text = ': still here\n\n';
      if (text !== '') {
        heartbeatMs = nowMs;
        await write(output, text, signal);
      }
      sequence = events.at(-1)?.sequence ?? sequence;
      if (events.length < BATCH) await news;
    }
  } finally {
    kinds.stop();
  }
}

/**
 * What changed since it was told last. Jobs are told of at once; reports come from every program every second, so they
 * are told of together.
 */
function changedKinds({ context: { changes, clock } }: Manager) {
  const changed = new Set<'jobs' | 'reports'>(['jobs', 'reports']);
  let reportsMs = -Infinity;
  const stops = (['jobs', 'reports'] as const).map((kind) => changes.listen(kind, () => changed.add(kind)));
  const dueMs = (): number => reportsMs + STREAM_REPORTS_EVERY_MS - clock.monotonicMs();
  return {
    take(): string[] {
      const kinds = [...changed].filter((kind) => kind === 'jobs' || dueMs() <= 0);
      for (const kind of kinds) changed.delete(kind);
      if (kinds.includes('reports')) reportsMs = clock.monotonicMs();
      return kinds;
    },
    /** Resolves when there is something to tell, or when it is time for a heartbeat. */
    next(signal: AbortSignal): Promise<void> {
      const isQuiet = dueMs() > 0;
      const topics = isQuiet ? (['events', 'jobs'] as const) : (['events', 'jobs', 'reports'] as const);
      return changes.next(topics, isQuiet ? dueMs() : STREAM_HEARTBEAT_MS, signal);
    },
    stop(): void {
      for (const stop of stops) stop();
    },
  };
}

async function write(output: ServerResponse, text: string, signal: AbortSignal): Promise<void> {
  if (output.write(text) || signal.aborted) return;
  const patience = AbortSignal.any([signal, AbortSignal.timeout(STREAM_STALL_MS)]);
  try {
    await once(output, 'drain', { signal: patience });
  } catch {
    // Gone or stalled, which ends the stream either way: the client resumes by its last id.
    output.destroy();
  }
}

function message(row: EventRow): string {
  return `id: ${row.sequence}\nevent: event\ndata: ${JSON.stringify(eventView(row))}\n\n`;
}

export function eventView(row: EventRow): EventView {
  return {
    sequence: row.sequence,
    at_ms: row.at_ms,
    kind: row.kind,
    severity: row.severity,
    subject: { kind: row.subject_kind, id: row.subject_id },
    message: row.message,
    reporter: row.reporter,
  };
}
