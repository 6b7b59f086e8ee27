/**
 * Makes a backup of a manager, while it runs or not: its database at one moment, its identity and its authority.
 *
 * Invariant: the file has its name once it is whole and durable; a crash leaves at most one that ends in `.new`.
 */
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sql } from 'kysely';
import { Failure } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { ownVersion } from '#/lib/version.ts';
import type { ManagerConfig } from '#/manager/manager-config.ts';
import { readFileIfThere } from '#/manager/secret-file.ts';
import { connectDatabase, kindOf } from '#/manager/store/database.ts';
import { readSetting, writeSetting } from '#/manager/store/settings-store.ts';
import { encodeHead, encodePart, newSalt, PART_BYTES, sealOf, type BackupHead } from './backup-format.ts';
import { atOneMoment, tableLines, type BackupLine } from './dump.ts';

/** Who the site is. Without them a database is of no use, and with them somebody speaks for the site. */
export const IDENTITY_FILES = ['site.json', 'ca.pem', 'ca.key.pem', 'manager-keys.json'] as const;
export const LAST_BACKUP = 'last_backup';
export const PASSPHRASE_CHARACTERS_MIN = 12;

export type BackupMade = { path: string; bytes: number; rows: number; created_ms: number };

/** Throws already_exists, config_invalid, storage_full, storage_io, unreachable. */
export async function makeBackup(
  config: ManagerConfig,
  options: { path: string; passphrase: string; nowMs: number },
): Promise<BackupMade> {
  const { nowMs, passphrase, path } = options;
  checkPassphrase(passphrase);
  const kind = kindOf(config.databaseUrl);
  const identity = await identityLines(config.dataDirectory);
  const db = connectDatabase(config.databaseUrl, silentLog, { readOnly: true });
  let written: { bytes: number; rows: number };
  try {
    written = await atOneMoment(db, kind, async (at) => {
      const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(
        at,
      );
      const head: BackupHead = {
        created_ms: nowMs,
        site_id: (await readSetting(at, 'site_id')) ?? '',
        site_name: config.siteName,
        version: ownVersion(),
        database: kind,
        migrations: rows.map(({ name }) => name),
        salt: newSalt(),
      };
      return writeFile(path, { head, passphrase, lines: chained(identity, tableLines(at, kind)) });
    });
  } finally {
    await db.destroy();
  }
  await rememberBackup(config.databaseUrl, { path, created_ms: nowMs });
  return { path, ...written, created_ms: nowMs };
}

export function checkPassphrase(passphrase: string): void {
  if (passphrase.length >= PASSPHRASE_CHARACTERS_MIN) return;
  throw new Failure(
    'usage_invalid',
    `the passphrase is shorter than ${PASSPHRASE_CHARACTERS_MIN} characters`,
    {
      hint: 'Whoever has the file and the passphrase can speak for the site: openssl rand -base64 24',
    },
  );
}

async function identityLines(directory: string): Promise<BackupLine[]> {
  const lines: BackupLine[] = [];
  for (const name of IDENTITY_FILES) {
    const text = await readFileIfThere(join(directory, name));
    if (text !== undefined) lines.push({ file: name, text });
    else if (name !== 'manager-keys.json') {
      throw new Failure('config_invalid', `back up ${directory}: it has no ${name}`, {
        hint: 'Check data_directory; a manager makes these files at its first start.',
      });
    }
  }
  return lines;
}

async function* chained(
  first: readonly BackupLine[],
  rest: AsyncIterable<BackupLine>,
): AsyncGenerator<BackupLine> {
  yield* first;
  yield* rest;
}

type Content = { head: BackupHead; passphrase: string; lines: AsyncIterable<BackupLine> };

async function writeFile(path: string, content: Content): Promise<{ bytes: number; rows: number }> {
  const beside = `${path}.new`;
  try {
    await rm(beside, { force: true });
    const written = await (async () => {
      await using file = await open(beside, 'wx', 0o600);
      const counts = await writeParts(content, (bytes) => file.appendFile(bytes));
      await file.sync();
      return counts;
    })();
    await rename(beside, path);
    await using directory = await open(dirname(path), 'r');
    await directory.sync();
    return written;
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    if (error instanceof Failure) throw error;
    const isFull = (error as NodeJS.ErrnoException).code === 'ENOSPC';
    throw new Failure(isFull ? 'storage_full' : 'storage_io', `write the backup ${path}`, { cause: error });
  }
}

/** For golden files too: the same content, head and passphrase make the same bytes. */
export async function writeParts(
  { head, lines, passphrase }: Content,
  write: (bytes: Buffer) => Promise<void>,
): Promise<{ bytes: number; rows: number }> {
  const encoded = encodeHead(head);
  const seal = await sealOf(passphrase, head, encoded);
  let bytes = encoded.length;
  let rows = 0;
  let number = 0;
  let pending: string[] = [];
  let pendingLength = 0;
  const put = async (isLast: boolean): Promise<void> => {
    const part = await encodePart(seal, number++, { bytes: Buffer.from(pending.join('')), isLast });
    await write(part);
    bytes += part.length;
    pending = [];
    pendingLength = 0;
  };
  await write(encoded);
  for await (const line of lines) {
    if ('row' in line) rows++;
    const text = `${JSON.stringify(line)}\n`;
    // A part is cut before it grows too long, never inside a line.
    if (pendingLength > 0 && pendingLength + text.length > PART_BYTES) await put(false);
    pending.push(text);
    pendingLength += text.length;
  }
  await put(true);
  return { bytes, rows };
}

async function rememberBackup(url: string, made: { path: string; created_ms: number }): Promise<void> {
  const db = connectDatabase(url, silentLog);
  try {
    await writeSetting(db, LAST_BACKUP, JSON.stringify(made));
  } finally {
    await db.destroy();
  }
}
