/** backup, restore: a manager's database, identity and authority, on its own machine. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { backUp, restore } from '#/operate/backup-files.ts';
import { examples, print, printJson } from './command.ts';
import { time } from './duration.ts';

type Options = { config: string; passphraseFile: string; json?: boolean };
const CONFIG = '/etc/antipode/manager.json';

export function registerBackupCommands(program: Command): void {
  const backup = withFiles(
    program
      .command('backup')
      .description(
        'write everything that the manager of this machine knows, its identity and its authority into one encrypted ' +
          'file; the manager may run meanwhile',
      )
      .requiredOption('--out <file>', 'where; a file that is there is replaced once the new one is whole'),
  ).action(async (options: Options & { out: string }) => {
    const made = await backUp({ ...options, path: resolve(options.out) });
    if (options.json === true) return printJson(made);
    print(`${made.path}: ${made.bytes} bytes, ${made.rows} rows, as of ${time(made.created_ms)}`);
    print('Keep it, and its passphrase, at two other places: who has both can speak for this site.');
  });
  examples(backup, [
    'antipode backup --out /srv/backup/west.apbackup --passphrase-file /root/backup.passphrase',
    '(umask 077; openssl rand -base64 24 > /root/backup.passphrase)',
  ]);
  const again = withFiles(
    program
      .command('restore')
      .description(
        'put a backup in the place of a lost manager: into an empty database, SQLite or PostgreSQL, whichever the ' +
          'backup came from; then the manager waits for "antipode rebuild", which compares it with what happened since',
      )
      .argument('<file>', 'the backup'),
  ).action(async (file: string, options: Options) => {
    const restored = await restore({ ...options, path: resolve(file) });
    if (options.json === true) return printJson(restored);
    print(`site ${restored.site_name} is as of ${time(restored.created_ms)}: ${restored.rows} rows`);
    print(
      'Start its manager, then: antipode rebuild --apply. Until then it orders nothing, and nobody loses anything.',
    );
    print(
      'Users, tokens and programs that were removed since are back: remove them again (docs/operate/backup.md).',
    );
  });
  examples(again, [
    'antipode restore /srv/backup/west.apbackup --passphrase-file /root/backup.passphrase',
    'antipode restore west.apbackup --config /etc/antipode/manager.json --passphrase-file /dev/stdin',
  ]);
}

function withFiles(command: Command): Command {
  return command
    .requiredOption('--passphrase-file <path>', 'whose first line is the passphrase; 12 characters or more')
    .option('--config <file>', "the manager's configuration", CONFIG)
    .option('--json', 'print what was done, for programs');
}
