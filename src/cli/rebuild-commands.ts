/** rebuild: a site whose manager has lost its database, taken in again from what others know. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { RebuildView } from '#/api/rebuild.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { table } from './table.ts';

type Options = CommonOptions & { apply?: boolean; startEmpty?: boolean; without: string[] };

/** Programs that were turned away ask again within ten seconds, and tell with their next report. */
const PATIENCE_MS = 45_000;
const ASK_EVERY_MS = 1000;

export function registerRebuildCommands(program: Command): void {
  const rebuild = withManager(
    program
      .command('rebuild')
      .description(
        'after the manager has lost its database: what can be taken in again from the programs of this site and ' +
          'the paired sites; --apply does it',
      )
      .option(
        '--apply',
        'let the programs in that ask, gather what they and the paired sites know, and go on',
      )
      .option(
        '--without <name>',
        'a program not to let in, or a program or site not to wait for; may be repeated',
        (name: string, before: string[]) => [...before, name],
        [],
      )
      .option('--start-empty', 'rebuild nothing: programs join again, and pairings are made again'),
  ).action(async (options: Options) => {
    const api = await managerOf(options);
    if (options.apply === true && options.startEmpty === true) {
      throw new Failure('usage_invalid', '--apply and --start-empty exclude each other');
    }
    const view = await carryOut(api, options);
    if (options.json === true) return printJson(view);
    show(view);
  });
  examples(rebuild, [
    'antipode rebuild',
    'antipode rebuild --apply',
    'antipode rebuild --apply --without west --without host-1f0c2b3a4d5e',
  ]);
}

async function carryOut(api: ManagerApi, options: Options): Promise<RebuildView> {
  if (options.startEmpty === true) return api.post<RebuildView>('/rebuild/abandon');
  if (options.apply !== true) return api.get<RebuildView>('/rebuild');
  const endMs = Date.now() + PATIENCE_MS;
  let waitsFor = '';
  for (;;) {
    const view = await api.post<RebuildView>('/rebuild', { without: options.without });
    if (view.state === 'none') return view;
    const missing = view.missing.join('\n  ');
    if (Date.now() > endMs) {
      throw new Failure('timeout', `the rebuild still waits:\n  ${missing}`, {
        hint:
          'Nothing is lost: programs go on by the orders they have. Start what is missing and repeat the command, or ' +
          'leave it out with --without NAME.',
      });
    }
    if (missing !== waitsFor && options.json !== true) say(`waiting:\n  ${missing}`);
    waitsFor = missing;
    await sleep(ASK_EVERY_MS);
  }
}

function show(view: RebuildView): void {
  if (view.result !== null) {
    const { replicas, protections, claims, documents, ended_ms: at, notes } = view.result;
    print(
      `rebuilt ${time(at)}: ${replicas} replicas, ${protections} protections, ${claims} epochs, ` +
        `${documents} of plans, groups and mappings`,
    );
    for (const note of notes) print(`  ${note}`);
  }
  if (view.state === 'none' && view.result === null) print('this site waits for no rebuild');
  if (view.state === 'waiting') {
    print('the database of this site was lost; its programs go on by their last orders, and get no new ones');
  }
  if (view.state === 'open') print(`the rebuild is under way; it waits:\n  ${view.missing.join('\n  ')}`);
  if (view.strangers.length === 0) return;
  const rows = view.strangers.map((one) => [one.id, one.kind, one.address, time(one.seen_ms)]);
  print(table(['TURNED AWAY', 'KIND', 'FROM', 'LAST ASKED'], rows, ''));
  print('Let all of them in again: antipode rebuild --apply. Leave one out: --without ID');
}
