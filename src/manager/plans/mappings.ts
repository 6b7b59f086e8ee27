/**
 * Inventory mappings: what networks, directories and hosts of a paired site become here. Both ends are checked when
 * one is made: the one here by what hosts report, the other by its manager, if that answers.
 */
import { InventoryAnswer, type InventoryQuestion, type ReverseMapping } from '#/api/peer.ts';
import type { MappingQuery, MappingRequest, MappingView, SavedMapping } from '#/api/plan-files.ts';
import { Type } from 'typebox';
import { closed } from '#/api/common.ts';
import type { Mapping } from '#/api/plans.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';
import type { Peers } from '#/manager/peers.ts';
import type { Database } from '#/manager/store/database.ts';
import { dropMapping, listMappings, putMapping, type MappingRecord } from '#/manager/store/mapping-store.ts';
import type { PeerRow } from '#/manager/store/peer-store.ts';
import { checkedDirectory, checkKnown, isKnown } from './site-things.ts';

/** Networks, hosts and directories of all sites that a site can be paired with. */
const MAPPINGS_MAX = 10_000;
const TEXT_MAX = 4096;
const Nothing = Type.Object({}, closed);

export class Mappings {
  readonly #context: Context;
  readonly #peers: Peers;

  constructor(context: Context, peers: Peers) {
    this.#context = context;
    this.#peers = peers;
  }

  async list(): Promise<MappingView[]> {
    const peers = new Map((await this.#peers.list()).map((peer) => [peer.site_id, peer]));
    return (await listMappings(this.#context.db)).map((row) => view(row, peers.get(row.peer_site_id)));
  }

  /** Throws, with nothing changed at either site, when one of them has not what is named. */
  async add(request: MappingRequest): Promise<SavedMapping> {
    const peer = await this.#peers.find(request.site);
    const row = this.checked(request, peer);
    const [unknown] = await this.unknownThere(peer, [row]);
    if (unknown?.failure.code === 'not_found') throw unknown.failure;
    const notices =
      unknown === undefined ? [] : [`${unknown.failure.message}. ${unknown.failure.hint ?? ''}`];
    if (request.both === true) {
      const body: ReverseMapping = { kind: row.kind, there: row.here, here: row.there };
      await this.#peers.call(peer, { method: 'POST', path: '/peer/v1/mappings', body }, Nothing);
    }
    await this.#context.db.transaction().execute((at) => this.put(at, row, peer));
    return { mapping: view(row, peer), notices };
  }

  async remove(query: MappingQuery): Promise<void> {
    const { db, events } = this.#context;
    const peer = await this.#peers.find(query.site);
    const { kind, there } = query;
    await db.transaction().execute(async (at) => {
      if (!(await dropMapping(at, { peer_site_id: peer.site_id, kind, there }))) {
        throw new Failure('not_found', `${kind} ${there} of ${peer.site_name} is not mapped`, {
          hint: 'List the mappings with: antipode mapping list',
        });
      }
      const message = `${kind} ${there} of ${peer.site_name} is mapped to nothing any more`;
      const subject = { kind: 'mapping', id: `${kind} ${there}` };
      await events.record(at, { kind: 'mapping.removed', severity: 'info', subject, message });
    });
  }

  /** A mapping as it is kept. Throws what is wrong with its end here. */
  checked({ kind, there, here }: Mapping, peer: PeerRow): MappingRecord {
    checkKnown(this.#context, { kind, name: here });
    const isPath = kind === 'storage';
    return {
      peer_site_id: peer.site_id,
      kind,
      there: isPath ? checkedDirectory(there) : there,
      here: isPath ? checkedDirectory(here) : here,
    };
  }

  /**
   * Those that the other site has not, each with a not_found; or, when it cannot be asked, the first of them with what
   * kept it from answering.
   */
  async unknownThere(
    peer: PeerRow,
    rows: readonly MappingRecord[],
  ): Promise<{ row: MappingRecord; failure: Failure }[]> {
    const body: InventoryQuestion = { things: rows.map(({ kind, there }) => ({ kind, name: there })) };
    const options = { method: 'POST', path: '/peer/v1/inventory/check', body } as const;
    let known: boolean[];
    try {
      known = (await this.#peers.call(peer, options, InventoryAnswer)).are_known;
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined || failure.retry === 'never') throw error;
      const names = rows.map(({ there }) => there).join(', ');
      const hint = `Whether site ${peer.site_name} has ${names} was not checked.`.slice(0, TEXT_MAX);
      const message = `site ${peer.site_name} does not answer`;
      return [{ row: rows[0]!, failure: new Failure(failure.code, message, { cause: error, hint }) }];
    }
    return rows
      .filter((_, index) => known[index] === false)
      .map((row) => {
        const where = row.kind === 'host' ? 'antipode hosts' : 'antipode hosts --json';
        const message = `site ${peer.site_name} has no ${row.kind} ${row.there}`;
        return { row, failure: new Failure('not_found', message, { hint: `Look there with: ${where}` }) };
      });
  }

  /** Records it, with an event when that changes anything. */
  async put(at: Database, row: MappingRecord, peer: PeerRow): Promise<'added' | 'changed' | 'none'> {
    const all = await listMappings(at);
    const before = all.find(
      ({ peer_site_id: id, kind, there }) =>
        id === row.peer_site_id && kind === row.kind && there === row.there,
    );
    if (before?.here === row.here) return 'none';
    if (before === undefined && all.length >= MAPPINGS_MAX) {
      throw new Failure('limit_exceeded', `this site has ${MAPPINGS_MAX} mappings already`, {
        hint: 'Remove those that are not needed: antipode mapping remove',
      });
    }
    await putMapping(at, row);
    const change = before === undefined ? 'added' : 'changed';
    await this.#context.events.record(at, {
      kind: `mapping.${change}`,
      severity: 'info',
      subject: { kind: 'mapping', id: `${row.kind} ${row.there}` },
      message: `${row.kind} ${row.there} of ${peer.site_name} becomes ${row.here} here`,
    });
    return change;
  }

  /** What a paired site asks before it maps things of this one. */
  known({ things }: InventoryQuestion): boolean[] {
    return things.map((thing) => isKnown(this.#context, thing));
  }

  /** The reverse of a mapping that a paired site makes. One that stands here already is not overwritten by it. */
  async accept(siteId: string, asked: ReverseMapping): Promise<void> {
    const { config, db } = this.#context;
    const peer = await this.#peers.find(siteId);
    const row = this.checked({ site: siteId, ...asked }, peer);
    await db.transaction().execute(async (at) => {
      const before = (await listMappings(at)).find(
        ({ peer_site_id: id, kind, there }) => id === siteId && kind === row.kind && there === row.there,
      );
      if (before !== undefined && before.here !== row.here) {
        const what = `${row.kind} ${row.there} of ${peer.site_name}`;
        throw new Failure('conflict', `site ${config.siteName} maps ${what} to ${before.here} already`, {
          hint: `Leave out --both, or remove that mapping at ${config.siteName} first.`,
        });
      }
      await this.put(at, row, peer);
    });
  }
}

function view(
  { kind, there, here, peer_site_id: id }: MappingRecord,
  peer: PeerRow | undefined,
): MappingView {
  return { site_id: id, site_name: peer?.site_name ?? id, kind, there, here };
}
