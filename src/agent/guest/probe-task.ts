/** Asks a guest again and again until it says that it is well, or the time is up. */
import type { Probe, ProbeTask } from '#/control/guest-tasks.ts';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { agentAnswers } from './agent-call.ts';
import { ConsoleText, consoleLogOf } from './console-text.ts';
import { domainOf, type GuestContext } from './guest-context.ts';
import { NetworkProbe } from './network-probe.ts';
import type { Reached } from './reach.ts';
import { runProgram } from './run-program.ts';
import { statusOf } from './execute-task.ts';

const EVERY_MS = 1000;
const AGENT_SECONDS = 2;
const SAID_LENGTH_MAX = 300;

/** Tries once. It owns what it needs for trying. */
type Attempts = AsyncDisposable & { attempt(signal: AbortSignal): Promise<Reached> };

/** Throws Failure timeout, not_found, vm_unsupported. */
export async function runProbe(
  task: ProbeTask,
  context: GuestContext,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { clock, steps } = context;
  const startedMs = clock.monotonicMs();
  const domain = await domainOf(task, context);
  return await steps.run(`probe: ${nameOf(task.probe)}`, async (note) => {
    await using attempts = await attemptsOf(task, domain, context);
    for (let tries = 1; ; tries++) {
      const { isWell, said } = await attempts.attempt(signal);
      const tookMs = clock.monotonicMs() - startedMs;
      if (isWell) return { said, tries, took_ms: Math.round(tookMs) };
      note(said);
      if (tookMs + EVERY_MS > task.timeout_ms) throw notWell(task, said);
      await clock.sleep(EVERY_MS, signal);
    }
  });
}

function notWell({ probe, vm_name: name, timeout_ms: timeoutMs }: ProbeTask, said: string): Failure {
  const seconds = Math.round(timeoutMs / 1000);
  return new Failure('timeout', `VM ${name} was not well within ${seconds} s: ${nameOf(probe)}`, {
    hint: `The last that was found: ${said}`,
  });
}

async function attemptsOf(task: ProbeTask, domain: Domain, context: GuestContext): Promise<Attempts> {
  const { probe } = task;
  switch (probe.kind) {
    case 'agent':
      return withoutOwn(async (signal) => {
        const isWell = await agentAnswers(domain, AGENT_SECONDS, signal);
        return { isWell, said: isWell ? 'the guest agent answers' : 'the guest agent does not answer' };
      });
    case 'tcp':
      return new NetworkProbe(task.id, { domain, context, address: probe.address, port: probe.port });
    case 'http': {
      const { address, port, path, status } = probe;
      const http = { path, ...(status === undefined ? {} : { status }) };
      return new NetworkProbe(task.id, { domain, context, address, port, http });
    }
    case 'serial': {
      const console = new ConsoleText(await consoleLogOf(domain), probe.text);
      return withoutOwn(async (signal) => {
        const isWell = await console.look(signal);
        const end = console.end.slice(-SAID_LENGTH_MAX);
        return { isWell, said: isWell ? `it said: ${probe.text}` : `the end of what it says: ${end}` };
      });
    }
    case 'script':
      return withoutOwn((signal) => runScript(task, probe, { domain, context, signal }));
  }
}

/** A guest whose agent is not up yet may be well in a moment. */
async function runScript(
  task: ProbeTask,
  probe: Extract<Probe, { kind: 'script' }>,
  parts: { domain: Domain; context: GuestContext; signal: AbortSignal },
): Promise<Reached> {
  const { domain, context, signal } = parts;
  const program = { path: probe.path, arguments: probe.arguments, timeoutMs: task.timeout_ms };
  try {
    if (!(await agentAnswers(domain, AGENT_SECONDS, signal))) {
      return { isWell: false, said: 'the guest agent does not answer' };
    }
    const ended = await runProgram(domain, program, { clock: context.clock, signal });
    const output = ended.output.trim().slice(-SAID_LENGTH_MAX);
    return { isWell: ended.exitCode === 0, said: `${probe.path} ended with ${statusOf(ended)}: ${output}` };
  } catch (error) {
    signal.throwIfAborted();
    const code = failureIn(error)?.code;
    if (code !== 'libvirt_error' && code !== 'timeout' && code !== 'tool_failed') throw error;
    return { isWell: false, said: describe(error) };
  }
}

function withoutOwn(attempt: Attempts['attempt']): Attempts {
  return { attempt, [Symbol.asyncDispose]: () => Promise.resolve() };
}

function nameOf(probe: Probe): string {
  switch (probe.kind) {
    case 'agent':
      return 'the guest agent answers';
    case 'tcp':
      return `TCP port ${probe.port} answers`;
    case 'http':
      return `HTTP port ${probe.port} answers ${probe.path}`;
    case 'serial':
      return `the serial port says "${probe.text.slice(0, 80)}"`;
    case 'script':
      return `${probe.path} ends with 0`;
  }
}
