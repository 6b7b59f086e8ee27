/**
 * Starts a recovered VM and waits for the guest's own evidence that it runs: a text on its serial port, or an answer
 * of its guest agent.
 *
 * The VM is started paused and its console opened first, so that nothing the guest says is missed.
 */
import type { RecoverTask } from '#/control/orders.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { RpcStream } from '#/libvirt/stream.ts';
import type { RecoverContext } from './recover-task.ts';

export type Awakening = {
  firstInstructionMs: number;
  /** What counted as the sign; null when none came in time. */
  sign: string | null;
  signMs: number | null;
  /** The last that the guest said on its console, for people. */
  consoleTail: string;
};

/** What is kept of the console: enough for a boot's last lines, and for a text that comes in pieces. */
const TAIL_LENGTH_MAX = 16 * 1024;
const REPORTED_LENGTH = 2048;
const AGENT_POLL_MS = 1000;

/**
 * Resolves also when no sign came: the VM runs, and what that means is for the caller to say. With `hasSign` an
 * earlier try has seen the sign, and nothing is waited for.
 */
export async function startAndWait(
  domain: Domain,
  start: { task: RecoverTask; context: RecoverContext; hasSign: boolean },
  signal: AbortSignal,
): Promise<Awakening> {
  const { task, context } = start;
  const { state } = await domain.getState();
  if (state === 'shutoff' || state === 'crashed') await domain.start(['paused']);
  if (start.hasSign) {
    if ((await domain.getState()).state === 'paused') await domain.resume();
    return { firstInstructionMs: context.clock.now(), sign: null, signMs: null, consoleTail: '' };
  }
  const limit = AbortSignal.any([signal, AbortSignal.timeout(task.sign_of_life.timeout_ms)]);
  const watch = new ConsoleWatch(task.sign_of_life.serial_text);
  const console = await openConsole(domain);
  if ((await domain.getState()).state === 'paused') await domain.resume();
  const firstInstructionMs = context.clock.now();
  const stop = new AbortController();
  try {
    const until = AbortSignal.any([limit, stop.signal]);
    const sign = await Promise.any([
      watch.read(console, until),
      answeringAgent(domain, context, until),
    ]).catch(() => null);
    signal.throwIfAborted();
    const signMs = sign === null ? null : context.clock.now();
    return { firstInstructionMs, sign, signMs, consoleTail: watch.tail.slice(-REPORTED_LENGTH) };
  } finally {
    stop.abort();
    await console?.[Symbol.asyncDispose]();
  }
}

/** Throws Failure timeout when there was no sign of life. */
export function requireSign(sign: string | null, awakening: Awakening, task: RecoverTask): void {
  if (sign !== null) return;
  const seconds = Math.round(task.sign_of_life.timeout_ms / 1000);
  throw new Failure(
    'timeout',
    `recover ${task.name}: the VM runs, but gave no sign of life within ${seconds} s`,
    {
      hint: `Look at its console; the last it said: ${awakening.consoleTail.slice(-200).trim() || 'nothing'}`,
    },
  );
}

/** A VM without a serial port has no console; its agent may answer all the same. */
async function openConsole(domain: Domain): Promise<RpcStream | undefined> {
  try {
    return await domain.openConsole(undefined, ['force']);
  } catch {
    return undefined;
  }
}

class ConsoleWatch {
  /** Null: any whole line will do. */
  readonly #wanted: string | null;
  tail = '';

  constructor(wanted: string | null) {
    this.#wanted = wanted;
  }

  async read(console: RpcStream | undefined, signal: AbortSignal): Promise<string> {
    if (console === undefined) throw new Failure('not_found', 'the VM has no console');
    const decoder = new TextDecoder();
    const stop = (): void => void console[Symbol.asyncDispose]();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const piece of console) {
        this.tail = (this.tail + decoder.decode(piece, { stream: true })).slice(-TAIL_LENGTH_MAX);
        const sign = this.#sign();
        if (sign !== undefined) return sign;
      }
    } finally {
      signal.removeEventListener('abort', stop);
    }
    throw new Failure('cancelled', 'the console ended');
  }

  #sign(): string | undefined {
    if (this.#wanted !== null) {
      return this.tail.includes(this.#wanted) ? `serial port: ${this.#wanted}` : undefined;
    }
    const line = /[^\s][^\n]*\n/.exec(this.tail)?.[0].trim();
    return line === undefined ? undefined : `serial port: ${line.slice(0, 80)}`;
  }
}

async function answeringAgent(domain: Domain, context: RecoverContext, signal: AbortSignal): Promise<string> {
  for (;;) {
    signal.throwIfAborted();
    try {
      await domain.agent.command('{"execute":"guest-ping"}', { timeoutSeconds: 1, signal });
      return 'guest agent';
    } catch {
      await context.clock.sleep(AGENT_POLL_MS, signal);
    }
  }
}
