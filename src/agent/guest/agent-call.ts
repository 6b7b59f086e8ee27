/**
 * Commands to QEMU's guest agent and its answers. The guest chooses every byte of an answer: it is checked before it is
 * believed, and what an agent refuses or leaves unanswered is a Failure that names the VM.
 */
import { Type, type Static, type TSchema } from 'typebox';
import { Check } from 'typebox/value';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';

/** An agent that answers at all answers these commands at once; a busy guest under emulation gets some more. */
const ANSWER_SECONDS = 10;

const Answer = Type.Object({ return: Type.Unknown() });

export type AgentCommand = { execute: string; arguments?: Record<string, unknown> };

/** Throws vm_unsupported when the agent does not know or allow it, timeout and libvirt_error while it is not there. */
export async function callAgent<T extends TSchema>(
  domain: Domain,
  command: AgentCommand,
  reply: T,
  signal: AbortSignal,
): Promise<Static<T>> {
  let text: string | undefined;
  try {
    text = await domain.agent.command(JSON.stringify(command), { timeoutSeconds: ANSWER_SECONDS, signal });
  } catch (error) {
    throw refusalIn(error, domain, command) ?? error;
  }
  const answer: unknown = text === undefined ? undefined : parsed(text);
  if (Check(Answer, answer) && Check(reply, answer.return)) return answer.return;
  throw new Failure(
    'vm_unsupported',
    `the guest agent of ${domain.name} answered ${command.execute} in a form not known here`,
  );
}

/** True when the agent answers. Throws what says that libvirt itself is away. */
export async function agentAnswers(
  domain: Domain,
  timeoutSeconds: number,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    await domain.agent.command('{"execute":"guest-ping"}', { timeoutSeconds, signal });
    return true;
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined || failure.code === 'unreachable' || signal.aborted) throw error;
    return false;
  }
}

/** libvirt wraps what an agent says about a command that it does not do. */
function refusalIn(error: unknown, domain: Domain, { execute }: AgentCommand): Failure | undefined {
  const failure = failureIn(error);
  if (
    failure === undefined ||
    !/CommandNotFound|has been disabled|command not found/i.test(failure.message)
  ) {
    return undefined;
  }
  return new Failure('vm_unsupported', `the guest agent of ${domain.name} does not do ${execute}`, {
    cause: error,
    hint: `Allow it in the guest (BLACKLIST_RPC or block-rpcs of qemu-ga), or do without it for this VM.`,
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}
