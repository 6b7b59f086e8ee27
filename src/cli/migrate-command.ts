/** migrate, failback: a planned migration of one VM, from its shut-down where it runs to its life at this site. */
import type { Command } from 'commander';
import type { RecoveryRequest, RecoveryView } from '#/api/recoveries.ts';
import { examples, interrupted, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { duration, parseDuration, time } from './duration.ts';
import { followRecovery, throwIfFailed } from './follow-recovery.ts';
import { networkMap } from './recover-commands.ts';
import { managerWithReplica } from './replica-site.ts';

type MigrateOptions = CommonOptions & {
  powerOff?: boolean;
  shutDownTimeout?: string;
  name?: string;
  host?: string;
  network?: string[];
  serialText?: string;
  signOfLifeTimeout?: string;
  reprotect?: boolean;
  wait: boolean;
};

export function registerMigrateCommands(program: Command): void {
  registerMigrate(program);
  registerFailback(program);
}

function registerMigrate(program: Command): void {
  const command = withManager(
    program
      .command('migrate')
      .description('move a VM to its recovery site: shut down there, last changes brought over, started here')
      .argument('<vm>', "the VM's name or UUID, or the replica's id")
      .option('--power-off', 'do not ask its guest to shut down, end it: as pulling its plug')
      .option('--shut-down-timeout <duration>', 'how long its guest may take (default: 5m)')
      .option('--name <name>', 'its name here (default: its own)')
      .option('--host <id>', 'the host to bring it up on, of those on the machine of its replication server')
      .option('--network <there=here...>', 'what to connect its networks to')
      .option('--serial-text <text>', 'text on its serial console that counts as its sign of life')
      .option('--sign-of-life-timeout <duration>', 'how long to wait for it')
      .option('--reprotect', 'protect it from here to the site that it came from, once it runs here')
      .option('--no-wait', 'do not wait for its end'),
  ).action(migrate);
  command.addHelpText(
    'after',
    '\nNothing is lost: what the VM wrote last is here, and proven equal, before it is started. When that does not ' +
      'come\nto be, it runs on where it was. The command belongs at the recovery site and needs the protected one. ' +
      'Without it:\nantipode recover VM',
  );
  examples(command, [
    'antipode migrate ledger',
    'antipode migrate ledger --shut-down-timeout 15m --network lan=default',
    'antipode migrate ledger --power-off        # a guest that cannot shut itself down',
  ]);
}

async function migrate(vm: string, options: MigrateOptions): Promise<void> {
  const api = await managerWithReplica(options, vm);
  const first = await api.post<RecoveryView>('/recoveries', request(vm, options));
  if (!options.wait) {
    if (options.json === true) return printJson(first);
    return print(`migration ${first.id} of ${first.vm_name} is under way: antipode recoveries ${first.id}`);
  }
  const isQuiet = options.json === true;
  if (!isQuiet) say(`migration ${first.id} of ${first.vm_name}:`);
  const view = await followRecovery(api, first, { isQuiet, signal: interrupted() });
  if (isQuiet) printJson(view);
  throwIfFailed(view);
  if (!isQuiet) print(summary(view));
}

function request(vm: string, options: MigrateOptions): RecoveryRequest {
  const { powerOff, shutDownTimeout, name, host, network, serialText, signOfLifeTimeout } = options;
  return {
    vm,
    purpose: 'migration',
    shut_down: powerOff === true ? 'power_off' : 'guest',
    ...(shutDownTimeout === undefined ? {} : { shut_down_timeout_ms: parseDuration(shutDownTimeout) }),
    ...(options.reprotect === true ? { reprotect: true } : {}),
    ...(name === undefined ? {} : { name }),
    ...(host === undefined ? {} : { host_id: host }),
    ...(network === undefined ? {} : { networks: networkMap(network) }),
    ...(serialText === undefined ? {} : { serial_text: serialText }),
    ...(signOfLifeTimeout === undefined ? {} : { sign_of_life_timeout_ms: parseDuration(signOfLifeTimeout) }),
  };
}

function registerFailback(program: Command): void {
  const command = withManager(
    program
      .command('failback')
      .description(
        'bring a VM home: as migrate, onto the networks that it was on here, and protected again as it was. Its old ' +
          'copy here makes room and is kept until it is removed',
      )
      .argument('<vm>', "the VM's name or UUID, or the replica's id")
      .option('--power-off', 'do not ask its guest to shut down, end it: as pulling its plug')
      .option('--shut-down-timeout <duration>', 'how long its guest may take (default: 5m)')
      .option('--host <id>', 'the host to bring it up on, of those on the machine of its replication server')
      .option('--network <there=here...>', 'instead of the networks that it was on here')
      .option('--serial-text <text>', 'text on its serial console that counts as its sign of life')
      .option('--sign-of-life-timeout <duration>', 'how long to wait for it')
      .option('--no-reprotect', 'leave it unprotected')
      .option('--no-wait', 'do not wait for its end'),
  ).action(migrate);
  examples(command, [
    'antipode failback ledger',
    'antipode failback ledger --no-reprotect',
    'antipode retired list              # what its old copy takes here',
  ]);
}

function summary(view: RecoveryView): string {
  const from = view.moment_ms === null ? '' : ` of ${time(view.moment_ms)}`;
  return (
    `${view.name} runs here, from its last point ${view.point}${from}, equal at both sites: nothing is lost.\n` +
    `It took ${duration(view.updated_ms - view.created_ms)}. Its old copy stays off at the protected site.`
  );
}
