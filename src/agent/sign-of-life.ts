/**
 * Starts a recovered VM and waits for the guest's own evidence that it runs: a text on its serial port, or an answer
 * of its guest agent.
 *
 * The VM is started paused and its console opened first, so that nothing the guest says is missed. Once it has run,
 * whoever shuts it down or pauses it means that: only a VM that crashed, or whose host did, is started again.
 */
import { open } from 'node:fs/promises';
import type { RecoverTask } from '#/control/orders.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { DomainState } from '#/libvirt/domain-state.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { RpcStream } from '#/libvirt/stream.ts';
import { trackFromStart } from './baseline/first-tracking.ts';
import { ConsoleWatch } from './console-watch.ts';
import { consoleLogPath } from './recover-names.ts';
import type { RecoverContext } from './recover-task.ts';
import type { RecoveryState } from './recovery-state.ts';
import { signSources, type SignSources } from './sign-sources.ts';
import type { Note } from './step-log.ts';

export type Awakening = {
  /** With what was seen; it is on disk. */
  state: RecoveryState;
  /** The VM has a way to give a sign. */
  canTell: boolean;
  /** The last that the guest said on its console, for people. */
  consoleTail: string;
  notes: string[];
};

export type StartParts = {
  task: RecoverTask;
  context: RecoverContext;
  state: RecoveryState;
  note: Note;
};

const LOG_BYTES_MAX = 64 * 1024;
const REPORTED_LENGTH = 2048;
const LOOK_MS = 500;
const AGENT_TIMEOUT_SECONDS = 1;

/**
 * What a VM that is left off comes to instead. One that is to be pulled is started paused, and stays so: its guest runs
 * no instruction. That it cannot be started is told here, since the pull would try for ever.
 */
export async function leaveOff(domain: Domain, parts: StartParts): Promise<Awakening> {
  let { state } = parts;
  if (state.isHeld) {
    if (isOff(await domain.getState())) await domain.start(['paused']);
    state = await trackFromStart(domain, parts);
  }
  return { state, canTell: false, consoleTail: '', notes: [LEFT_OFF] };
}

/** Resolves also when no sign came: the VM runs, and what that means is for the caller to say. */
export async function startAndWait(
  domain: Domain,
  parts: StartParts,
  signal: AbortSignal,
): Promise<Awakening> {
  const before = await domain.getState();
  const isLeftOff = parts.state.isHeld || (isOff(before) && parts.state.hasRun && isMeant(before));
  const sources = signSources(await domain.getXml(['inactive']));
  const canTell = sources.hasSerial || sources.hasAgent;
  const nothing = { canTell, consoleTail: '', notes: [] };
  if (isLeftOff) return { ...nothing, state: parts.state };
  if (isOff(before)) await domain.start(['paused']);
  const isNeeded = parts.state.sign === null && canTell;
  // A console may be in use by a person; it is taken over only for a sign that is still to come.
  const console = isNeeded && sources.hasSerial ? await openConsole(domain) : undefined;
  try {
    const state = await resume(domain, parts, isOff(before));
    if (!isNeeded) return { ...nothing, state, notes: canTell ? [] : [NO_WAY_TO_TELL] };
    const { sign, consoleTail } = await lookForSign(domain, { ...parts, sources, console }, signal);
    if (sign === undefined) return { ...nothing, state, consoleTail };
    const seen = { ...state, sign, signMs: parts.context.clock.now() };
    await parts.context.states.write(seen);
    return { ...nothing, state: seen, consoleTail };
  } finally {
    await console?.[Symbol.asyncDispose]();
  }
}

async function lookForSign(
  domain: Domain,
  parts: StartParts & { sources: SignSources; console: RpcStream | undefined },
  signal: AbortSignal,
): Promise<{ sign: string | undefined; consoleTail: string }> {
  const { state, task } = parts;
  const watch = new ConsoleWatch(task.sign_of_life.serial_text);
  // What the guest said while an earlier try was cut, it does not say again.
  const missed = state.hasRun ? watch.take(await loggedTail(state.directory)) : undefined;
  const sign = missed ?? (await waitForSign(domain, { ...parts, watch }, signal));
  return { sign, consoleTail: watch.tail.slice(-REPORTED_LENGTH) };
}

const LEFT_OFF = 'The VM is left off, as was asked: nothing tells whether its guest boots.';
const NO_WAY_TO_TELL =
  'The VM has no serial port and no guest agent, so nothing tells whether its guest has booted.';

/** Throws Failure timeout when there was no sign of life. */
export function requireSign(awakening: Awakening, task: RecoverTask): void {
  const silence = silenceOf(awakening, task);
  if (silence !== undefined) throw silence;
}

/** Why the VM does not count as up; undefined when it does. */
export function silenceOf(
  { state, canTell, consoleTail }: Awakening,
  task: RecoverTask,
): Failure | undefined {
  if (state.sign !== null || state.isLeftOff === true) return undefined;
  const wanted = task.sign_of_life.serial_text;
  if (!canTell && wanted === null) return undefined;
  const seconds = Math.round(task.sign_of_life.timeout_ms / 1000);
  const why = canTell ? `gave no sign of life within ${seconds} s` : 'has no serial port to give a sign on';
  return new Failure('timeout', `recover ${task.name}: the VM was started, but ${why}`, {
    hint: `Look at its console; the last it said: ${consoleTail.slice(-200).trim() || 'nothing'}`,
  });
}

/** What is known of its first instruction is on disk at once, so that a repeated task does not make it later. */
async function resume(domain: Domain, parts: StartParts, isFresh: boolean): Promise<RecoveryState> {
  const { context } = parts;
  let { state } = parts;
  const { state: now } = await domain.getState();
  const isOurPause = now === 'paused' && (isFresh || !state.hasRun);
  if (isOurPause) {
    state = await trackFromStart(domain, parts);
    await domain.resume();
  }
  if (state.hasRun) return state;
  const firstInstructionMs = isOurPause ? context.clock.now() : null;
  const seen = { ...state, hasRun: true, firstInstructionMs };
  await context.states.write(seen);
  return seen;
}

async function waitForSign(
  domain: Domain,
  parts: StartParts & { sources: SignSources; console: RpcStream | undefined; watch: ConsoleWatch },
  signal: AbortSignal,
): Promise<string | undefined> {
  const { task, context, console, watch, sources } = parts;
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const timeUp = context.clock.sleep(task.sign_of_life.timeout_ms, until).catch(() => undefined);
  const ways: Promise<string | undefined>[] = [
    answeringAgent(domain, sources, context, until),
    timeUp.then(() => undefined),
  ];
  if (console !== undefined) ways.push(signOnConsole(console, watch, until));
  try {
    return await Promise.race(ways);
  } finally {
    stop.abort();
    await Promise.allSettled(ways);
    signal.throwIfAborted();
  }
}

/** Waits on when the console ends without the sign: the agent may still answer, and the time limit ends it all. */
async function signOnConsole(
  console: RpcStream,
  watch: ConsoleWatch,
  signal: AbortSignal,
): Promise<string | undefined> {
  const sign = await watch.read(console, signal);
  return sign ?? (await aborted(signal));
}

/** Undefined as soon as the VM does not run any more, which no sign can follow. */
async function answeringAgent(
  domain: Domain,
  sources: SignSources,
  context: RecoverContext,
  signal: AbortSignal,
): Promise<string | undefined> {
  while (!signal.aborted) {
    if (isOff(await domain.getState())) return undefined;
    if (sources.hasAgent && (await answers(domain, signal))) return 'guest agent';
    await context.clock.sleep(LOOK_MS, signal).catch(() => undefined);
  }
  return undefined;
}

/** False while the guest has not opened its end of the channel, and when its agent takes too long. */
async function answers(domain: Domain, signal: AbortSignal): Promise<boolean> {
  try {
    await domain.agent.command('{"execute":"guest-ping"}', { timeoutSeconds: AGENT_TIMEOUT_SECONDS, signal });
    return true;
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined || failure.code === 'unreachable') throw error;
    return false;
  }
}

/** A console that cannot be opened, such as one that goes to a file, is as good as none. */
async function openConsole(domain: Domain): Promise<RpcStream | undefined> {
  try {
    return await domain.openConsole(undefined, ['force']);
  } catch (error) {
    if (failureIn(error)?.code !== 'libvirt_error') throw error;
    return undefined;
  }
}

/** The end of what libvirt has written of the console; nothing when it has not. */
async function loggedTail(directory: string): Promise<string> {
  try {
    await using file = await open(consoleLogPath(directory));
    const { size } = await file.stat();
    const bytes = new Uint8Array(Math.min(size, LOG_BYTES_MAX));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, size - bytes.length);
    return new TextDecoder().decode(bytes.subarray(0, bytesRead));
  } catch (error) {
    if (error instanceof Error && 'code' in error) return '';
    throw error;
  }
}

export function isOff({ state }: DomainState): boolean {
  return state === 'shutoff' || state === 'crashed';
}

/** Shut down by its guest or ended by a person, other than by a crash of QEMU or its host. */
export function isMeant({ reason }: DomainState): boolean {
  return reason === 'shutdown' || reason === 'destroyed';
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    else signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
}
