/**
 * Gives a guest that has come home the addresses and host name that it had there: what a plan at the other site changed
 * is kept in the guest itself, and put back here. A guest that was not changed says so and is left as it is.
 *
 * It fails no recovery: the VM runs, and what could not be put back is said.
 */
import type { Clock } from '#/lib/clock.ts';
import { describe, failureIn } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { agentAnswers } from './agent-call.ts';
import { restoreScript } from './customize-script.ts';
import { runProgram } from './run-program.ts';

const AGENT_SECONDS = 2;
const EVERY_MS = 1000;
/** The guest has given its sign of life; its agent starts a little later, if there is one. */
const PATIENCE_MS = 20_000;
const SCRIPT_MS = 60_000;
const SAID_LENGTH_MAX = 1000;

/** What came of it, in words; `isRestored` is false when a person has to look. */
export async function restoreAddresses(
  domain: Domain,
  clock: Clock,
  signal: AbortSignal,
): Promise<{ words: string; isRestored: boolean }> {
  const endMs = clock.monotonicMs() + PATIENCE_MS;
  try {
    while (!(await agentAnswers(domain, AGENT_SECONDS, signal))) {
      if (clock.monotonicMs() > endMs) return failed('its guest agent does not answer');
      await clock.sleep(EVERY_MS, signal);
    }
    const program = { path: '/bin/sh', arguments: ['-c', restoreScript()], timeoutMs: SCRIPT_MS };
    const { exitCode, output } = await runProgram(domain, program, { clock, signal });
    const said = output.trim().slice(-SAID_LENGTH_MAX);
    return exitCode === 0 ? { words: said, isRestored: true } : failed(said);
  } catch (error) {
    signal.throwIfAborted();
    if (failureIn(error) === undefined) throw error;
    return failed(describe(error));
  }
}

function failed(why: string): { words: string; isRestored: boolean } {
  const words = `its addresses and host name may still be those of the other site: ${why || 'the guest said nothing'}`;
  return { words, isRestored: false };
}
