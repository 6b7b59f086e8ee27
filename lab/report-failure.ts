/**
 * The end of a command that failed: what and why in words or, as every command prints it, as JSON; and the exit code
 * of the failure's kind.
 */
import { describe, failureIn } from '#/lib/failure.ts';

/** A bug is thrown on: its stack is what helps. */
export function reportFailure(error: unknown, asJson: boolean): void {
  const failure = failureIn(error);
  if (failure === undefined) throw error;
  if (asJson) {
    const problem = { code: failure.code, message: describe(error), hint: failure.hint ?? null };
    process.stderr.write(`${JSON.stringify(problem)}\n`);
  } else {
    process.stderr.write(`antipode: ${describe(error)}\n`);
    if (failure.hint !== undefined) process.stderr.write(`${failure.hint}\n`);
  }
  process.exitCode = failure.exitCode;
}
