/**
 * What all programs share: run until SIGTERM or SIGINT, say what went wrong in one line of the log, exit with the
 * failure's code.
 */
import { parseArgs } from 'node:util';
import { Failure, failureIn } from './failure.ts';
import { failureFields, type Log } from './log.ts';

/** A bug's exit code: the supervisor starts the program again. */
const EXIT_BUG = 70;

/** Runs `work` to its end, or until a signal asks for it; then ends the process. */
export async function runProgram(log: Log, work: (signal: AbortSignal) => Promise<void>): Promise<never> {
  const stop = new AbortController();
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      log.info('program.stopping', { signal: name });
      stop.abort(new Failure('cancelled', `stop because of ${name}`));
    });
  }
  process.exit(await exitCode(log, work, stop.signal));
}

/** The value of `--config`. Throws usage_invalid. */
export function configPath(args: readonly string[]): string {
  try {
    const { values } = parseArgs({ args: [...args], options: { config: { type: 'string' } } });
    if (values.config !== undefined) return values.config;
  } catch (error) {
    throw new Failure('usage_invalid', 'read the command line', {
      cause: error,
      hint: 'Give --config FILE.',
    });
  }
  throw new Failure('usage_invalid', 'read the command line: --config is missing', {
    hint: 'Give --config FILE.',
  });
}

async function exitCode(
  log: Log,
  work: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<number> {
  try {
    await work(signal);
    log.info('program.stopped');
    return 0;
  } catch (error) {
    const failure = failureIn(error);
    if (failure !== undefined && signal.aborted && failure.code === 'cancelled') {
      log.info('program.stopped');
      return 0;
    }
    const stack = failure === undefined && error instanceof Error ? error.stack : undefined;
    log.error('program.failed', { ...failureFields(error), stack });
    return failure?.exitCode ?? EXIT_BUG;
  }
}
