/** recover, recoveries, cleanup. */
import type { Command } from 'commander';
import type { RecoveryRequest, RecoveryView } from '#/api/recoveries.ts';
import { Failure } from '#/lib/failure.ts';
import {
  examples,
  interrupted,
  managerOf,
  print,
  printJson,
  say,
  withManager,
  type CommonOptions,
} from './command.ts';
import { duration, parseDuration, time } from './duration.ts';
import { followRecovery, throwIfFailed } from './follow-recovery.ts';
import { managerWithReplica } from './replica-site.ts';
import { table } from './table.ts';

type RecoverOptions = CommonOptions & {
  point?: string;
  test?: boolean;
  name?: string;
  host?: string;
  network?: string[];
  serialText?: string;
  signOfLifeTimeout?: string;
  force?: boolean;
  wait: boolean;
};

export function registerRecoverCommands(program: Command): void {
  registerRecover(program);
  registerCleanup(program);
  registerRetry(program);
  registerRecoveries(program);
}

function registerRecover(program: Command): void {
  const command = withManager(
    program
      .command('recover')
      .description('bring a VM up at its recovery site, from the newest or from any recovery point')
      .argument('<vm>', "the VM's name or UUID, or the replica's id")
      .option('--point <sequence>', 'the recovery point; see: antipode points VM')
      .option('--test', 'beside the original, isolated, replication going on; ends with: antipode cleanup VM')
      .option('--name <name>', 'its name here (default: its own; in a test, with -test appended)')
      .option('--host <id>', 'the host to bring it up on, of those on the machine of its replication server')
      .option('--network <there=here...>', 'what to connect its networks to')
      .option('--serial-text <text>', 'text on its serial console that counts as its sign of life')
      .option('--sign-of-life-timeout <duration>', 'how long to wait for it')
      .option(
        '--force',
        'although it runs at the protected site: the copy there is paused first, not shut down',
      )
      .option('--no-wait', 'do not wait for its end'),
  ).action(async (vm: string, options: RecoverOptions) => {
    const startedMs = Date.now();
    const api = await managerWithReplica(options, vm);
    const first = await api.post<RecoveryView>('/recoveries', request(vm, options));
    if (!options.wait) {
      if (options.json === true) return printJson(first);
      return print(`recovery ${first.id} of ${first.vm_name} is under way: antipode recoveries ${first.id}`);
    }
    if (options.json !== true) say(`recovery ${first.id} of ${first.vm_name}:`);
    const isQuiet = options.json === true;
    const view = await followRecovery(api, first, { isQuiet, signal: interrupted() });
    if (isQuiet) printJson(view);
    throwIfFailed(view);
    if (!isQuiet) print(summary(view, startedMs));
  });
  command.addHelpText(
    'after',
    '\nA site that answers is made to stop its copy before one runs here. A site that does not answer is not waited ' +
      'for: that\nis the disaster. Its copy yields as soon as it is heard of again.',
  );
  examples(command, [
    'antipode recover ledger --test             # try it; nothing of production is touched',
    'antipode cleanup ledger                    # and take the copy down again',
    'antipode recover ledger                    # the protected site is gone: run it here',
    'antipode recover ledger --point 17         # as it was at that point',
    'antipode recover ledger --network lan=default',
  ]);
}

function request(vm: string, options: RecoverOptions): RecoveryRequest {
  const { point, name, host, network, serialText, signOfLifeTimeout } = options;
  if (point !== undefined && !/^[1-9]\d{0,14}$/.test(point)) {
    throw new Failure('usage_invalid', `"${point}" is no recovery point`, {
      hint: `Points are numbers; list them with: antipode points ${vm}`,
    });
  }
  return {
    vm,
    purpose: options.test === true ? 'test' : 'recovery',
    ...(point === undefined ? {} : { point: Number(point) }),
    ...(name === undefined ? {} : { name }),
    ...(host === undefined ? {} : { host_id: host }),
    ...(network === undefined ? {} : { networks: networkMap(network) }),
    ...(serialText === undefined ? {} : { serial_text: serialText }),
    ...(signOfLifeTimeout === undefined ? {} : { sign_of_life_timeout_ms: parseDuration(signOfLifeTimeout) }),
    ...(options.force === true ? { force: true } : {}),
  };
}

/** Of `--network there=here`. Throws usage_invalid. */
export function networkMap(pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(pairs.map(pair));
}

function pair(text: string): [string, string] {
  const [there, here, ...rest] = text.split('=');
  if (there !== undefined && here !== undefined && rest.length === 0) return [there, here];
  throw new Failure('usage_invalid', `"${text}" does not map a network`, {
    hint: 'Write --network NAME-THERE=NAME-HERE.',
  });
}

function summary(view: RecoveryView, startedMs: number): string {
  const from =
    view.moment_ms === null
      ? `point ${view.point}`
      : `point ${view.point} of ${time(view.moment_ms)}, ${duration(Math.max(0, startedMs - view.moment_ms))} old then`;
  const end =
    view.purpose === 'test'
      ? `\nIt is isolated. When you have seen enough: antipode cleanup ${view.id}`
      : '\nIt stands alone: the replica is no longer needed for it.';
  return `${view.name} runs, from ${from}, after ${duration(view.updated_ms - view.created_ms)}.${end}`;
}

function registerCleanup(program: Command): void {
  const command = withManager(
    program
      .command('cleanup')
      .description(
        'take down what a recovery made: end a test, cancel one that is under way, clear a failed one',
      )
      .argument('<recovery>', "the recovery's id, or its VM's name")
      .option('--no-wait', 'do not wait for its end'),
  ).action(async (which: string, options: CommonOptions & { wait: boolean }) => {
    const api = which.startsWith('job-')
      ? await managerOf(options)
      : await managerWithReplica(options, which);
    const first = await api.post<RecoveryView>(`/recoveries/${encodeURIComponent(which)}/cleanup`);
    const isQuiet = options.json === true;
    const view = options.wait ? await followRecovery(api, first, { isQuiet, signal: interrupted() }) : first;
    if (isQuiet) printJson(view);
    if (view.state === 'failed') throwIfFailed(view);
    if (isQuiet) return;
    print(
      view.state === 'cleaned'
        ? `${view.name} is gone, and what its recovery made`
        : `${view.id} is ${view.state}`,
    );
  });
  examples(command, ['antipode cleanup ledger', 'antipode cleanup job-1f0c2b3a4d5e']);
}

function registerRetry(program: Command): void {
  const command = withManager(
    program
      .command('retry')
      .description(
        'go on with a recovery for production that failed when its VM had come up, such as by its disks that could ' +
          'not be pulled',
      )
      .argument('<recovery>', "the recovery's id, or its VM's name")
      .option('--no-wait', 'do not wait for its end'),
  ).action(async (which: string, options: CommonOptions & { wait: boolean }) => {
    const api = which.startsWith('job-')
      ? await managerOf(options)
      : await managerWithReplica(options, which);
    const first = await api.post<RecoveryView>(`/recoveries/${encodeURIComponent(which)}/retry`);
    const isQuiet = options.json === true;
    const view = options.wait ? await followRecovery(api, first, { isQuiet, signal: interrupted() }) : first;
    if (isQuiet) printJson(view);
    throwIfFailed(view);
    if (!isQuiet) print(`${view.name}: its recovery ${view.id} is ${view.state}`);
  });
  examples(command, ['antipode retry ledger', 'antipode retry job-1f0c2b3a4d5e']);
}

function registerRecoveries(program: Command): void {
  const command = withManager(
    program
      .command('recoveries')
      .description('recoveries of the site, newest first; or the steps of one')
      .argument('[id]', 'show this one'),
  ).action(async (id: string | undefined, options: CommonOptions) => {
    const api = await managerOf(options);
    if (id !== undefined) {
      const view = await api.get<RecoveryView>(`/recoveries/${encodeURIComponent(id)}`);
      return options.json === true ? printJson(view) : print(steps(view));
    }
    const { items } = await api.get<{ items: RecoveryView[] }>('/recoveries');
    if (options.json === true) return printJson(items);
    const rows = items.map((view) => [
      view.id,
      view.vm_name,
      view.name,
      view.purpose,
      view.point === null ? '' : String(view.point),
      time(view.created_ms),
      view.state,
    ]);
    print(table(['ID', 'VM', 'AS', 'PURPOSE', 'POINT', 'BEGAN', 'STATE'], rows, 'no recovery yet'));
  });
  examples(command, ['antipode recoveries', 'antipode recoveries job-1f0c2b3a4d5e']);
}

function steps(view: RecoveryView): string {
  const rows = view.steps.flatMap((step) => [
    [step.name.replaceAll('_', ' '), step.state, took(step), step.failure?.message ?? ''],
    ...step.details.map((detail) => [`  ${detail.name}`, '', took(detail), detail.note ?? '']),
  ]);
  const head = `${view.purpose} of ${view.vm_name} as ${view.name}: ${view.state}\n\n`;
  return `${head}${table(['STEP', 'STATE', 'TOOK', ''], rows, 'no step yet')}`;
}

function took(step: { started_ms: number; ended_ms: number | null }): string {
  return step.ended_ms === null
    ? `${duration(Math.max(0, Date.now() - step.started_ms))} so far`
    : duration(step.ended_ms - step.started_ms);
}
