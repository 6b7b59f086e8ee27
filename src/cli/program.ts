/** All commands of the command line, put together. */
import { Command } from 'commander';
import { registerAdminCommands } from './admin-commands.ts';
import { registerEventCommands } from './event-commands.ts';
import { registerInventoryCommands } from './inventory-commands.ts';
import { registerProtectCommands } from './protect-commands.ts';
import { registerRecoverCommands } from './recover-commands.ts';
import { registerReplicaCommands } from './replica-commands.ts';
import { registerStatusCommand } from './status-command.ts';

const ABOUT = `Site recovery for KVM: every protected VM keeps a second self at another site.

Commands talk to the manager of this machine, to the one that --manager names, or, on a machine with a lab, to the one
of --site. Exit codes: 0 done, 2 wrong usage, 3 something failed that may work later, 4 refused, 5 not allowed.`;

export function createProgram(): Command {
  const program = new Command('antipode')
    .description(ABOUT)
    .showSuggestionAfterError(true)
    .configureHelp({ sortSubcommands: false })
    // What is wrong is told by main.ts, like every other failure; with a suggestion where there is one.
    .configureOutput({ outputError: () => undefined })
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
