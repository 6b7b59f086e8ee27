/**
 * The audit log: who asked for what, from where, why, and what came of it. Rows are only ever added, and each holds the
 * hash of itself and of the one before, so that none can be changed or left out without all that follow.
 *
 * What changes something has two rows: one before it is done, whose outcome is `begun`, and one after, which names the
 * first. A `begun` that no row names is what a manager was doing when it died.
 */
import { createHash } from 'node:crypto';
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, nullable, Text } from './common.ts';

export const AuditRow = Type.Object(
  {
    sequence: Type.Integer({ minimum: 1 }),
    at_ms: Milliseconds,
    actor: Text,
    /** socket (root on the manager), token, session, or password for somebody who signs in. */
    by: Type.String(),
    address: Text,
    action: Text,
    subject: Text,
    /** `begun`, `ok`, or the code of the failure. */
    outcome: Type.String(),
    /** As the caller gave it. */
    reason: nullable(Text),
    /** The sequence of the row that tells of the beginning. */
    begun: nullable(Type.Integer({ minimum: 1 })),
    hash: Type.String(),
  },
  closed,
);
export type AuditRow = Static<typeof AuditRow>;

/** Of the row before the first. */
export const GENESIS = '0'.repeat(64);

export const AuditVerification = Type.Object(
  {
    is_whole: Type.Boolean(),
    /** What breaks it, in words. */
    problems: Type.Array(Text),
    /** Rows in the database; those before are in archives. */
    first_sequence: nullable(Type.Integer()),
    last_sequence: Type.Integer({ minimum: 0 }),
    /** Keep it elsewhere: a log that was cut and written anew is whole, and ends in another. */
    last_hash: Type.String(),
    archives: Type.Array(
      Type.Object(
        {
          file: Text,
          first_sequence: Type.Integer(),
          last_sequence: Type.Integer(),
          /** The manager that has the file. */
          manager_id: Id,
          /** elsewhere: another manager of the site has it. */
          state: Type.Union([Type.Literal('whole'), Type.Literal('broken'), Type.Literal('elsewhere')]),
        },
        closed,
      ),
    ),
  },
  closed,
);
export type AuditVerification = Static<typeof AuditVerification>;

/** SHA-256 of the hash before and of all fields, as a JSON array in this order. */
export function auditHash(before: string, row: Omit<AuditRow, 'hash'>): string {
  const fields = [
    before,
    row.sequence,
    row.at_ms,
    row.actor,
    row.by,
    row.address,
    row.action,
    row.subject,
    row.outcome,
    row.reason,
    row.begun,
  ];
  return createHash('sha256').update(JSON.stringify(fields)).digest('hex');
}

/** Checks rows as they follow each other. */
export class AuditChain {
  #hash: string | undefined;
  #sequence: number | undefined;

  /** Undefined: of a log whose beginning may not be there. Its first row is believed then, unless it is the first. */
  constructor(before?: { sequence: number; hash: string }) {
    this.#hash = before?.hash;
    this.#sequence = before?.sequence;
  }

  get hash(): string | undefined {
    return this.#hash;
  }

  get sequence(): number | undefined {
    return this.#sequence;
  }

  /** What is wrong with the row, in words; it is believed then, so that one flaw is told once. */
  next(row: AuditRow): string | undefined {
    const isFirst = this.#sequence === undefined && row.sequence === 1;
    const [hash, sequence] = isFirst ? [GENESIS, 0] : [this.#hash, this.#sequence];
    this.#hash = row.hash;
    this.#sequence = row.sequence;
    if (sequence !== undefined && row.sequence !== sequence + 1) {
      return `row ${sequence + 1} is missing: row ${row.sequence} follows ${sequence}`;
    }
    if (hash !== undefined && auditHash(hash, row) !== row.hash) {
      return `row ${row.sequence} is not what it was when it was written, or the row before it was another`;
    }
    return undefined;
  }
}
