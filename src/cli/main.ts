#!/usr/bin/env node
/** The command line: a client of the API of a site's manager, and of bare replica directories. */
import { CommanderError } from 'commander';
import { describe, failureIn, Failure } from '#/lib/failure.ts';
import { createProgram } from './program.ts';
import { printable } from './table.ts';

const EXIT_USAGE = 2;
/** What a shell shows for a program that ended by SIGPIPE. */
const EXIT_PIPE = 141;

/** Runs one command line; resolves with the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  const isJson = argv.includes('--json');
  try {
    const program = await createProgram(argv[0]);
    await program.parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0;
    const failure = error instanceof CommanderError ? wrongUsage(error) : failureIn(error);
    // Commander's way of saying that a command was named without its own subcommand: the help has been shown.
    if (failure === undefined && error instanceof CommanderError) return EXIT_USAGE;
    if (failure === undefined) throw error;
    process.stderr.write(isJson ? `${JSON.stringify(problem(failure))}\n` : text(failure));
    return failure.exitCode;
  }
}

/** Undefined when the help was shown instead of an error. */
function wrongUsage({ code, message }: CommanderError): Failure | undefined {
  if (code === 'commander.help') return undefined;
  return new Failure('usage_invalid', message.replace(/^error: /, '').replaceAll('\n', ' '), {
    hint: 'Add --help to see how it is written.',
  });
}

function problem(failure: Failure) {
  return { code: failure.code, message: describe(failure), hint: failure.hint ?? null };
}

function text(failure: Failure): string {
  const hint = failure.hint === undefined ? '' : `${printable(failure.hint)}\n`;
  return `antipode: ${printable(describe(failure))}\n${hint}`;
}

// Whoever reads the output, such as `head`, may stop reading: nothing is left to say then.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(EXIT_PIPE);
});
process.exitCode = await main(process.argv.slice(2));
