#!/usr/bin/env node
/** The command line: a client of the API of a site's manager, and of bare replica directories. */
import { Command, CommanderError } from 'commander';
import { describe, failureIn, Failure } from '#/lib/failure.ts';
import { registerAdminCommands } from './admin-commands.ts';
import { registerEventCommands } from './event-commands.ts';
import { registerInventoryCommands } from './inventory-commands.ts';
import { registerProtectCommands } from './protect-commands.ts';
import { registerRecoverCommands } from './recover-commands.ts';
import { registerReplicaCommands } from './replica-commands.ts';
import { registerStatusCommand } from './status-command.ts';
import { printable } from './table.ts';

const EXIT_USAGE = 2;

const ABOUT = `Site recovery for KVM: every protected VM keeps a second self at another site.

Commands talk to the manager of this machine, to the one that --manager names, or, on a machine with a lab, to the one
of --site. Exit codes: 0 done, 2 wrong usage, 3 something failed that may work later, 4 refused, 5 not allowed.`;

function createProgram(): Command {
  const program = new Command('antipode')
    .description(ABOUT)
    .showSuggestionAfterError(true)
    .configureHelp({ sortSubcommands: false })
    .showHelpAfterError('See --help.')
    .exitOverride();
  registerStatusCommand(program);
  registerProtectCommands(program);
  registerRecoverCommands(program);
  registerInventoryCommands(program);
  registerEventCommands(program);
  registerReplicaCommands(program);
  registerAdminCommands(program);
  return program;
}

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
