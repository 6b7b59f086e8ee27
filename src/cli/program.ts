/**
 * The commands of the command line, put together.
 *
 * Only the module that has the named command is loaded: a recovery starts when its command does, and loading all of
 * them takes as long as a replication server takes to open a recovery point. Help and wrong words load all.
 */
import { Command } from 'commander';

const ABOUT = `Site recovery for KVM: every protected VM keeps a second self at another site.

Commands talk to the manager of this machine, to the one that --manager names, or, on a machine with a lab, to the one
of --site. Exit codes: 0 done, 2 wrong usage, 3 something failed that may work later, 4 refused, 5 not allowed.`;

type Group = { names: readonly string[]; load: () => Promise<(program: Command) => void> };

/** Which module has which commands, in the order of the help. */
export const GROUPS: readonly Group[] = [
  {
    names: ['status'],
    load: async () => (await import('./status-command.ts')).registerStatusCommand,
  },
  {
    names: ['protect', 'unprotect', 'points'],
    load: async () => (await import('./protect-commands.ts')).registerProtectCommands,
  },
  {
    names: ['bookmark'],
    load: async () => (await import('./bookmark-command.ts')).registerBookmarkCommand,
  },
  {
    names: ['set'],
    load: async () => (await import('./set-command.ts')).registerSetCommand,
  },
  {
    names: ['recover', 'cleanup', 'retry', 'recoveries'],
    load: async () => (await import('./recover-commands.ts')).registerRecoverCommands,
  },
  {
    names: ['reprotect'],
    load: async () => (await import('./reprotect-commands.ts')).registerReprotectCommands,
  },
  {
    names: ['plan'],
    load: async () => (await import('./plan-commands.ts')).registerPlanCommands,
  },
  {
    names: ['runs'],
    load: async () => (await import('./run-commands.ts')).registerRunsCommand,
  },
  {
    names: ['group'],
    load: async () => (await import('./group-commands.ts')).registerGroupCommands,
  },
  {
    names: ['mapping'],
    load: async () => (await import('./mapping-commands.ts')).registerMappingCommands,
  },
  {
    names: ['migrate', 'failback'],
    load: async () => (await import('./migrate-command.ts')).registerMigrateCommands,
  },
  {
    names: ['retired'],
    load: async () => (await import('./retired-commands.ts')).registerRetiredCommands,
  },
  {
    names: ['fence'],
    load: async () => (await import('./fence-commands.ts')).registerFenceCommands,
  },
  {
    names: ['vms', 'hosts', 'replication-servers', 'sites'],
    load: async () => (await import('./inventory-commands.ts')).registerInventoryCommands,
  },
  {
    names: ['alarms'],
    load: async () => (await import('./alarm-commands.ts')).registerAlarmCommands,
  },
  {
    names: ['events'],
    load: async () => (await import('./event-commands.ts')).registerEventCommands,
  },
  {
    names: ['audit'],
    load: async () => (await import('./audit-commands.ts')).registerAuditCommands,
  },
  {
    names: ['replica'],
    load: async () => (await import('./replica-commands.ts')).registerReplicaCommands,
  },
  {
    names: ['report'],
    load: async () => (await import('./report-commands.ts')).registerReportCommands,
  },
  {
    names: ['rebuild'],
    load: async () => (await import('./rebuild-commands.ts')).registerRebuildCommands,
  },
  {
    names: ['backup', 'restore'],
    load: async () => (await import('./backup-commands.ts')).registerBackupCommands,
  },
  {
    names: ['support-bundle'],
    load: async () => (await import('./support-bundle-command.ts')).registerSupportBundleCommand,
  },
  {
    names: ['doctor'],
    load: async () => (await import('./doctor-command.ts')).registerDoctorCommand,
  },
  {
    names: ['admin', 'user', 'session'],
    load: async () => (await import('./access-commands.ts')).registerAccessCommands,
  },
  {
    names: ['join-token', 'pair-token', 'pair', 'token', 'tokens'],
    load: async () => (await import('./admin-commands.ts')).registerAdminCommands,
  },
  {
    names: ['completion'],
    load: async () => (await import('./completion-command.ts')).registerCompletionCommand,
  },
];

/** With the group of the command `named`; with all of them when none has it, so that help and suggestions know all. */
export async function createProgram(named?: string): Promise<Command> {
  const program = new Command('antipode')
    .description(ABOUT)
    .showSuggestionAfterError(true)
    .configureHelp({ sortSubcommands: false })
    // What is wrong is told by main.ts, like every other failure; with a suggestion where there is one.
    .configureOutput({ outputError: () => undefined })
    .exitOverride();
  // Completion is made of all commands.
  const one = named === 'completion' ? undefined : named;
  const own = GROUPS.find(({ names }) => one !== undefined && names.includes(one));
  for (const { load } of own === undefined ? GROUPS : [own]) {
    const register = await load();
    register(program);
  }
  return program;
}
