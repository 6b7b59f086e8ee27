/** bookmark: gives a recovery point a name and keeps it by that. */
import type { Command } from 'commander';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BookmarkRequest, BookmarkView, ReplicaView } from '#/api/replicas.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { countIn, parseDuration, time } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { managerWithReplica } from './replica-site.ts';
import { table } from './table.ts';

type Options = CommonOptions & { name?: string; for?: string; remove?: boolean };

/** So long the replication server may take to say that it keeps the point. */
const WAIT_MS = 10_000;
const LOOK_EVERY_MS = 300;

export function registerBookmarkCommand(program: Command): void {
  const command = withManager(
    program
      .command('bookmark')
      .description(
        'give a recovery point a name, and keep it whatever the retention; without a point, list them',
      )
      .argument('<vm>', "the VM's name or UUID, or the replica's id; at the recovery site")
      .argument('[point]', 'its number, as antipode points says')
      .option('--name <text>', 'what it is called; needed for a new one')
      .option('--for <duration>', 'keep it so long; without it, until it is taken away')
      .option('--remove', 'take the bookmark away: retention decides about the point again'),
  ).action(run);
  examples(command, [
    'antipode bookmark ledger 17 --name "before the upgrade"',
    'antipode bookmark ledger 17 --name audit --for 90d',
    'antipode bookmark ledger                       # which there are',
    'antipode bookmark ledger 17 --remove',
  ]);
}

async function run(vm: string, point: string | undefined, options: Options): Promise<void> {
  const sequence = point === undefined ? undefined : countIn('the point', point);
  const api = await managerWithReplica(options, vm);
  const path = `/replicas/${encodeURIComponent(vm)}`;
  if (sequence === undefined) return list(await api.get<ReplicaView>(path), options);
  if (options.remove === true) {
    await api.delete(`${path}/bookmarks/${sequence}`);
    return options.json === true
      ? printJson({})
      : print(`recovery point ${sequence} of ${vm} has no bookmark now`);
  }
  if (options.name === undefined) {
    throw new Failure('usage_invalid', 'a bookmark needs a name', {
      hint: 'Such as: --name "before the upgrade"',
    });
  }
  const request: BookmarkRequest = {
    sequence,
    name: options.name,
    until_ms: options.for === undefined ? null : Date.now() + parseDuration(options.for),
  };
  const view = await settled(api, path, await api.post<BookmarkView>(`${path}/bookmarks`, request));
  if (view.state === 'gone') {
    throw new Failure('point_expired', `retention took recovery point ${sequence} before it could be kept`);
  }
  if (options.json === true) return printJson(view);
  const until = view.until_ms === null ? 'until the bookmark is taken away' : `until ${time(view.until_ms)}`;
  print(`recovery point ${sequence} of ${vm}, "${view.name}", is kept ${until}`);
  if (view.state === 'asked')
    say('its replication server has not confirmed that yet; it is asked until it does');
}

async function settled(api: ManagerApi, path: string, view: BookmarkView): Promise<BookmarkView> {
  const endMs = Date.now() + WAIT_MS;
  let last = view;
  while (last.state === 'asked' && Date.now() < endMs) {
    await sleep(LOOK_EVERY_MS);
    const { bookmarks } = await api.get<ReplicaView>(path);
    last = bookmarks.find((one) => one.sequence === view.sequence) ?? last;
  }
  return last;
}

function list({ bookmarks }: ReplicaView, options: Options): void {
  if (options.json === true) return printJson(bookmarks);
  const rows = bookmarks.map((one) => [
    String(one.sequence),
    time(one.moment_ms),
    one.name,
    one.until_ms === null ? 'taken away' : time(one.until_ms),
    one.state,
  ]);
  print(table(['POINT', 'MOMENT', 'NAME', 'KEPT UNTIL', 'STATE'], rows, 'no bookmark'));
}
