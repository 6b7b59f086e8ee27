/**
 * Copies of this site's plans, groups and mappings at its paired sites, so that they outlive its database, and back.
 *
 * Invariant: an empty database never replaces the copy of a full one: what was never written here is not told.
 */
import { createHash } from 'node:crypto';
import { Type } from 'typebox';
import { Check } from 'typebox/value';
import { DOCUMENT_CHARACTERS_MAX, type DocumentTold } from '#/api/peer.ts';
import { failureIn } from '#/lib/failure.ts';
import { isSignedBySite } from '#/lib/site-signature.ts';
import type { Context } from '#/manager/context.ts';
import { DOCUMENTS_TELL_AGAIN_MS } from '#/manager/limits.ts';
import type { Peers } from '#/manager/peers.ts';
import type { Database } from '#/manager/store/database.ts';
import { readSetting, writeSetting } from '#/manager/store/settings-store.ts';
import { isRebuilding } from './rebuild-state.ts';

const SETTING = 'documents';
/** Rows of the tables as they are, since the documents in them have their own form. */
const Rows = Type.Array(
  Type.Record(Type.String({ maxLength: 64 }), Type.Union([Type.String(), Type.Number(), Type.Null()])),
);
const Bundle = Type.Object(
  { version: Type.Literal(1), written_ms: Type.Integer(), mappings: Rows, groups: Rows, plans: Rows },
  { additionalProperties: false },
);
type Written = { sha256: string; written_ms: number };

export class Documents {
  readonly #context: Context;
  readonly #peers: Peers;
  /** What each site has taken. */
  readonly #told = new Map<string, string>();
  #toldSinceMs = 0;
  #isTooLong = false;

  constructor(context: Context, peers: Peers) {
    this.#context = context;
    this.#peers = peers;
  }

  /** Gives each paired site the newest copy that it has not taken yet. Repeated every few seconds. */
  async tell(): Promise<void> {
    const { authority, clock, db } = this.#context;
    if (await isRebuilding(db)) return;
    if (clock.monotonicMs() - this.#toldSinceMs > DOCUMENTS_TELL_AGAIN_MS) {
      this.#told.clear();
      this.#toldSinceMs = clock.monotonicMs();
    }
    const peers = await this.#peers.list();
    if (peers.length === 0) return;
    const copy = await this.#copy();
    if (copy === undefined) return;
    for (const peer of peers.filter((one) => this.#told.get(one.site_id) !== copy.sha256)) {
      try {
        const { document } = copy;
        const body: DocumentTold = { document, signature: await authority.signText(signedText(document)) };
        const options = { method: 'POST', path: '/peer/v1/documents', body } as const;
        await this.#peers.call(peer, options, Type.Object({}));
        this.#told.set(peer.site_id, copy.sha256);
      } catch (error) {
        if (failureIn(error) === undefined) throw error;
      }
    }
  }

  async #copy(): Promise<{ sha256: string; document: string } | undefined> {
    const { clock, db, log } = this.#context;
    const rows = await readRows(db);
    const sha256 = createHash('sha256').update(JSON.stringify(rows)).digest('hex');
    const text = await readSetting(db, SETTING);
    let written = text === undefined ? undefined : (JSON.parse(text) as Written);
    if (written === undefined && Object.values(rows).every((one) => one.length === 0)) return undefined;
    if (written?.sha256 !== sha256) {
      written = { sha256, written_ms: clock.now() };
      await writeSetting(db, SETTING, JSON.stringify(written));
    }
    const document = JSON.stringify({ version: 1, written_ms: written.written_ms, ...rows });
    const isTooLong = document.length > DOCUMENT_CHARACTERS_MAX;
    if (isTooLong && !this.#isTooLong) {
      log.error('documents.too_long', { characters: document.length, most: DOCUMENT_CHARACTERS_MAX });
    }
    this.#isTooLong = isTooLong;
    return isTooLong ? undefined : { sha256, document };
  }
}

/**
 * Takes the newest of the copies in that this site's authority has signed; what is here under the same name already
 * stays. Answers how many rows came.
 */
export async function restoreDocuments(
  db: Database,
  caPem: string,
  copies: readonly DocumentTold[],
): Promise<number> {
  const bundles = copies.flatMap(({ document, signature }) => {
    if (!isSignedBySite(signedText(document), signature, caPem)) return [];
    const value: unknown = JSON.parse(document);
    return Check(Bundle, value) ? [value] : [];
  });
  const [newest] = bundles.toSorted((a, b) => b.written_ms - a.written_ms);
  if (newest === undefined) return 0;
  const before = await readRows(db);
  const isNew =
    (known: readonly { name: string; id: string }[]) =>
    (row: Record<string, unknown>): boolean =>
      !known.some(({ id, name }) => id === row['id'] || name === row['name']);
  const groups = newest.groups.filter(isNew(before.groups));
  const plans = newest.plans.filter(isNew(before.plans));
  for (const row of newest.mappings) {
    await db
      .insertInto('mappings')
      .values(row as never)
      .onConflict((conflict) => conflict.doNothing())
      .execute();
  }
  for (const row of groups)
    await db
      .insertInto('protection_groups')
      .values(row as never)
      .execute();
  for (const row of plans)
    await db
      .insertInto('plans')
      .values(row as never)
      .execute();
  return newest.mappings.length + groups.length + plans.length;
}

async function readRows(db: Database) {
  return {
    mappings: await db.selectFrom('mappings').selectAll().orderBy('peer_site_id').orderBy('there').execute(),
    groups: await db.selectFrom('protection_groups').selectAll().orderBy('id').execute(),
    plans: await db.selectFrom('plans').selectAll().orderBy('id').execute(),
  };
}

function signedText(document: string): string {
  return `antipode documents 1\nsha256 ${createHash('sha256').update(document).digest('hex')}\n`;
}
