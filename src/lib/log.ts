/**
 * A program's log: one JSON object a line, for machines to keep and people to search.
 *
 * To systemd's journal each line begins with its priority. What is said is an event with fields, not prose.
 * Secrets never get here: they are read, used and dropped elsewhere.
 */
import { fstatSync } from 'node:fs';
import { describe, failureIn } from './failure.ts';

export type LogLevel = 'info' | 'warning' | 'error';
export type LogFields = Record<string, string | number | boolean | null | undefined>;

export interface Log {
  info(event: string, fields?: LogFields): void;
  warning(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** The same log with fields that every line carries. */
  with(fields: LogFields): Log;
}

/** Longest value of a field: a peer's or a tool's text is cut. */
const TEXT_LENGTH_MAX = 2000;

/** Syslog's numbers, which journald takes off the front of a line for its own PRIORITY. */
const PRIORITIES: Record<LogLevel, string> = { error: '<3>', warning: '<4>', info: '<6>' };
const LEVELS: readonly LogLevel[] = ['info', 'warning', 'error'];

/** `ANTIPODE_LOG_LEVEL` names the least level that is said. */
export function createLog(program: string, write: (line: string) => void = toStandardError): Log {
  const least = LEVELS.indexOf(process.env['ANTIPODE_LOG_LEVEL'] as LogLevel);
  const isToJournal = write === toStandardError && isJournal(process.env['JOURNAL_STREAM']);
  return new JsonLog({ program }, (line, level) => {
    if (LEVELS.indexOf(level) >= least) write(isToJournal ? `${PRIORITIES[level]}${line}` : line);
  });
}

/** systemd names the device and inode of the stream: standard error may have been led elsewhere since. */
export function isJournal(stream: string | undefined, descriptor = 2): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(descriptor);
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}

/** What an error looks like in a log: its code, the chain of reasons, and what to do. */
export function failureFields(error: unknown): LogFields {
  const failure = failureIn(error);
  return { code: failure?.code, reason: describe(error), hint: failure?.hint };
}

class JsonLog implements Log {
  readonly #fields: LogFields;
  readonly #write: (line: string, level: LogLevel) => void;

  constructor(fields: LogFields, write: (line: string, level: LogLevel) => void) {
    this.#fields = fields;
    this.#write = write;
  }

  info(event: string, fields?: LogFields): void {
    this.#say('info', event, fields);
  }

  warning(event: string, fields?: LogFields): void {
    this.#say('warning', event, fields);
  }

  error(event: string, fields?: LogFields): void {
    this.#say('error', event, fields);
  }

  with(fields: LogFields): Log {
    return new JsonLog({ ...this.#fields, ...fields }, this.#write);
  }

  #say(level: LogLevel, event: string, fields: LogFields = {}): void {
    const line = { time: new Date().toISOString(), level, ...this.#fields, event, ...fields };
    const cut = (_key: string, value: unknown): unknown =>
      typeof value === 'string' ? value.slice(0, TEXT_LENGTH_MAX) : value;
    this.#write(`${JSON.stringify(line, cut)}\n`, level);
  }
}

function toStandardError(line: string): void {
  process.stderr.write(line);
}

/** For tests: says nothing. */
export const silentLog: Log = createLog('silent', () => {});
