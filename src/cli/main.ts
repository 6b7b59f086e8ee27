#!/usr/bin/env node
/** The command line: a client of the API of a site's manager, and of bare replica directories. */
import { CommanderError } from 'commander';
import { describe, failureIn, Failure } from '#/lib/failure.ts';
import { createProgram } from './program.ts';
import { printable } from './table.ts';

const EXIT_USAGE = 2;

/** Runs one command line; resolves with the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(argv, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    const isJson = argv.includes('--json');
    process.stderr.write(isJson ? `${JSON.stringify(problem(failure))}\n` : text(failure));
    return failure.exitCode;
  }
}

function problem(failure: Failure) {
  return { code: failure.code, message: describe(failure), hint: failure.hint ?? null };
}

function text(failure: Failure): string {
  const hint = failure.hint === undefined ? '' : `${printable(failure.hint)}\n`;
  return `antipode: ${printable(describe(failure))}\n${hint}`;
}

process.exitCode = await main(process.argv.slice(2));
