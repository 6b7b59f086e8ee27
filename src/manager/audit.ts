/**
 * The audit log of the site (src/api/audit.ts). What a person asks for is recorded before it is done, with what came of
 * it after; nothing is ever dropped: what there is no room for goes into archives in the data directory, first made
 * durable, then taken out of the database.
 */
import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AuditChain, GENESIS, type AuditRow, type AuditVerification } from '#/api/audit.ts';
import { Failure } from '#/lib/failure.ts';
import type { Context } from './context.ts';
import { AUDIT_ARCHIVE_ROWS, AUDIT_ROWS_MAX } from './limits.ts';
import { readFileIfThere, writeSecretFile } from './secret-file.ts';
import {
  appendAudit,
  auditAfter,
  auditHead,
  listAuditArchives,
  replaceByArchive,
  type AuditArchive,
  type AuditHead,
} from './store/audit-store.ts';

/** Rows that are added between two looks at whether there are too many. */
const LOOK_EVERY = 100;
const AT_ONCE = 1000;
const PROBLEMS_MAX = 20;

export type AuditEntry = Pick<AuditRow, 'actor' | 'by' | 'address' | 'action' | 'subject' | 'reason'>;
export type AuditLimits = { rowsMax: number; archiveRows: number };

export class Audit {
  readonly #context: Context;
  readonly #limits: AuditLimits;

  constructor(context: Context, limits?: AuditLimits) {
    this.#context = context;
    this.#limits = limits ?? { rowsMax: AUDIT_ROWS_MAX, archiveRows: AUDIT_ARCHIVE_ROWS };
  }

  /** The number of the row, for its end. */
  begin(entry: AuditEntry): Promise<number> {
    return this.#append(entry, 'begun', null);
  }

  /** `begun` null: it was refused before it began. */
  async end(entry: AuditEntry, outcome: string, begun: number | null): Promise<void> {
    await this.#append(entry, outcome, begun);
  }

  /** Into the log of the program, which is another place than the database: what a rewritten chain would not end in. */
  async tellHead(): Promise<void> {
    const { sequence, hash } = await auditHead(this.#context.db);
    if (sequence > 0) this.#context.log.info('audit.head', { sequence, hash });
  }

  /** Moves the oldest rows into files until there are few enough. Throws storage_io. */
  async archive(): Promise<void> {
    const { db } = this.#context;
    const { archiveRows, rowsMax } = this.#limits;
    for (;;) {
      const { sequence } = await auditHead(db);
      const archives = await listAuditArchives(db);
      if (sequence - (archives.at(-1)?.last_sequence ?? 0) < rowsMax + archiveRows) return;
      if (!(await this.#archiveAfter(archives.at(-1)))) return;
    }
  }

  async verify(): Promise<AuditVerification> {
    const { db } = this.#context;
    const problems: string[] = [];
    const tell = (problem: string | undefined): void => {
      if (problem !== undefined && problems.length < PROBLEMS_MAX) problems.push(problem);
    };
    const archives: AuditVerification['archives'] = [];
    let before: AuditHead = { sequence: 0, hash: GENESIS };
    for (const archive of await listAuditArchives(db)) {
      const state = await this.#stateOf(archive, before, tell);
      const { file, first_sequence, last_sequence, manager_id } = archive;
      archives.push({ file, first_sequence, last_sequence, manager_id, state });
      before = { sequence: archive.last_sequence, hash: archive.last_hash };
    }
    // Rows that are added meanwhile follow the head that is read first.
    const head = await auditHead(db);
    const chain = new AuditChain(before);
    let first: number | null = null;
    for (let rows = await this.#upTo(head, before.sequence); rows.length > 0;) {
      first ??= rows[0]!.sequence;
      for (const row of rows) tell(chain.next(row));
      rows = await this.#upTo(head, rows.at(-1)!.sequence);
    }
    if (chain.sequence !== head.sequence) tell(`rows ${chain.sequence! + 1} to ${head.sequence} are missing`);
    else if (chain.hash !== head.hash) tell(`row ${head.sequence} is not the one that the log ends in`);
    return {
      is_whole: problems.length === 0,
      problems,
      first_sequence: first,
      last_sequence: head.sequence,
      last_hash: head.hash,
      archives,
    };
  }

  async #append(entry: AuditEntry, outcome: string, begun: number | null): Promise<number> {
    const { clock, db } = this.#context;
    const sequence = await appendAudit(db, { ...entry, at_ms: clock.now(), outcome, begun });
    if (sequence % LOOK_EVERY === 0) await this.archive();
    return sequence;
  }

  async #upTo(head: AuditHead, after: number): Promise<AuditRow[]> {
    const rows = await auditAfter(this.#context.db, after, AT_ONCE);
    return rows.filter(({ sequence }) => sequence <= head.sequence);
  }

  async #archiveAfter(last: AuditArchive | undefined): Promise<boolean> {
    const { clock, db, identity, log } = this.#context;
    const rows: AuditRow[] = [];
    while (rows.length < this.#limits.archiveRows) {
      const after = rows.at(-1)?.sequence ?? last?.last_sequence ?? 0;
      const more = await auditAfter(db, after, Math.min(AT_ONCE, this.#limits.archiveRows - rows.length));
      if (more.length === 0) break;
      rows.push(...more);
    }
    const [first, newest] = [rows[0], rows.at(-1)];
    if (first === undefined || newest === undefined) return false;
    const digits = (sequence: number): string => String(sequence).padStart(10, '0');
    const file = `audit-${digits(first.sequence)}-${digits(newest.sequence)}.jsonl`;
    const text = rows.map((row) => `${JSON.stringify(row)}\n`).join('');
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeSecretFile(join(this.#directory, file), text);
    const isDone = await replaceByArchive(db, {
      first_sequence: first.sequence,
      last_sequence: newest.sequence,
      last_hash: newest.hash,
      file,
      sha256: sha256(text),
      manager_id: identity.managerId,
      archived_ms: clock.now(),
    });
    if (isDone) log.info('audit.archived', { file, row_count: rows.length });
    return isDone;
  }

  async #stateOf(
    archive: AuditArchive,
    before: AuditHead,
    tell: (problem: string | undefined) => void,
  ): Promise<'whole' | 'broken' | 'elsewhere'> {
    if (archive.manager_id !== this.#context.identity.managerId) return 'elsewhere';
    const text = await readFileIfThere(join(this.#directory, archive.file));
    if (text === undefined) {
      tell(`archive ${archive.file} is missing`);
      return 'broken';
    }
    const isSame = sha256(text) === archive.sha256 && archive.first_sequence === before.sequence + 1;
    // Whoever may write both the file and its hash in the database has to write the chain anew as well.
    const chain = new AuditChain(before);
    const lines = isSame ? text.trimEnd().split('\n') : [];
    const problem = lines
      .map((line) => chain.next(JSON.parse(line) as AuditRow))
      .find((one) => one !== undefined);
    if (isSame && problem === undefined && chain.hash === archive.last_hash) return 'whole';
    tell(`archive ${archive.file} is not what was written${problem === undefined ? '' : `: ${problem}`}`);
    return 'broken';
  }

  get #directory(): string {
    return join(this.#context.config.dataDirectory, 'audit');
  }
}

/** The reason in the header of a request, percent-encoded UTF-8. Throws usage_invalid. */
export function reasonIn(header: string | string[] | undefined): string | null {
  if (header === undefined) return null;
  const text = typeof header === 'string' && header.length <= 4096 ? decoded(header) : undefined;
  if (text === undefined || text.length > 1024) {
    throw new Failure(
      'usage_invalid',
      'the header antipode-reason is no percent-encoded text of 1024 characters',
    );
  }
  return text.trim() === '' ? null : text;
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
