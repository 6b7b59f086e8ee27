/**
 * The managers of paired sites: pairing by a token that is shown once, and calls over mutual TLS.
 *
 * A site may be away for days. Whether it answered is remembered in memory only; nothing is decided by it.
 */
import { X509Certificate } from 'node:crypto';
import { Check } from 'typebox/value';
import type { Static, TSchema } from 'typebox';
import { SiteCard } from '#/api/peer.ts';
import { call, fetchAuthority, type CallOptions, type ManagerAddress } from '#/control/https-client.ts';
import { parseToken } from '#/control/join-token.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { Admission } from './admission.ts';
import type { Context } from './context.ts';
import { PEER_TIMEOUT_MS } from './limits.ts';
import { listPeers, putPeer, type PeerRow } from './store/peer-store.ts';

export type Contact = { isReachable: boolean; atMs: number; failure?: Failure };
export type ManagerKeys = { certificatePem: string; privateKeyPem: string };

export class Peers {
  readonly #context: Context;
  readonly #admission: Admission;
  /** The manager's own key and certificate as they are now; renewal replaces them. */
  readonly #keys: () => ManagerKeys;
  readonly #contacts = new Map<string, Contact>();
  #port: number;

  constructor(context: Context, admission: Admission, keys: () => ManagerKeys) {
    this.#context = context;
    this.#admission = admission;
    this.#keys = keys;
    this.#port = context.config.listen.port;
  }

  /** The port that other sites are told, known once the manager listens. */
  listensOn(port: number): void {
    this.#port = port;
  }

  list(): Promise<PeerRow[]> {
    return listPeers(this.#context.db);
  }

  contact(siteId: string): Contact | undefined {
    return this.#contacts.get(siteId);
  }

  /** The paired site of that name or id. Throws not_found. */
  async find(nameOrId: string): Promise<PeerRow> {
    const peers = await this.list();
    const found = peers.find((peer) => peer.site_id === nameOrId || peer.site_name === nameOrId);
    if (found !== undefined) return found;
    const names = peers.map((peer) => peer.site_name).join(', ');
    const known = names === '' ? 'It is paired with none yet.' : `It is paired with: ${names}.`;
    throw new Failure('not_found', `this site is not paired with a site "${nameOrId}"`, {
      hint: `${known} Pair with: antipode pair-token there, antipode pair TOKEN here.`,
    });
  }

  card(): SiteCard {
    const { authority, config, identity } = this.#context;
    return {
      site_id: identity.siteId,
      site_name: config.siteName,
      ca_pem: authority.caPem,
      host: config.advertisedHost,
      port: this.#port,
    };
  }

  createToken(): Promise<{ token: string; expires_ms: number }> {
    const { host, port } = this.card();
    return this.#admission.createToken(
      'pairing',
      host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`,
    );
  }

  /** At the site that was given the token. */
  async pair(token: string): Promise<PeerRow> {
    const { caSha256, address, kind } = parseToken(token);
    if (kind !== 'pairing' || address === undefined) {
      throw new Failure('token_invalid', `the token admits a ${kind}, not a site`, {
        hint: 'Make one at the other site with: antipode pair-token',
      });
    }
    if (caSha256 === this.#context.authority.sha256) {
      throw new Failure('usage_invalid', 'the token was made by this very site', {
        hint: 'Make the token at one site and use it at the other.',
      });
    }
    const at = parseAddress(address);
    const authority = await fetchAuthority(at, caSha256);
    await this.#checkNewcomer({ ...authority, siteName: undefined });
    const reply = await call(
      { address: at, ...authority },
      { method: 'POST', path: '/peer/v1/pair', body: { token: token.trim(), site: this.card() } },
    );
    const card = checked(SiteCard, reply);
    if (card.site_id !== authority.siteId) {
      throw new Failure('protocol_corrupt', `the manager at ${address} calls itself ${card.site_id}`);
    }
    return this.#keep({ ...card, ca_pem: authority.caPem });
  }

  /** At the site that made the token. */
  async acceptPairing(token: string, card: SiteCard, remoteAddress: string): Promise<SiteCard> {
    readAuthority(card.ca_pem);
    const { site_id: siteId, site_name: siteName, ca_pem: caPem } = card;
    await this.#checkNewcomer({ siteId, siteName, caPem });
    await this.#admission.takeToken(this.#context.db, {
      text: token,
      kind: 'pairing',
      by: `site ${siteName}`,
      remoteAddress,
    });
    await this.#keep(card);
    return this.card();
  }

  async #checkNewcomer(site: { siteId: string; siteName: string | undefined; caPem: string }): Promise<void> {
    const { config, identity } = this.#context;
    if (site.siteId === identity.siteId) {
      throw new Failure('conflict', `a site with this site's own id ${site.siteId} asks to be paired`);
    }
    const peers = await this.list();
    const same = peers.find((peer) => peer.site_id === site.siteId);
    if (same !== undefined && readAuthority(same.ca_pem) !== readAuthority(site.caPem)) {
      throw new Failure('conflict', `site ${same.site_name} is paired with another certificate authority`);
    }
    const namesake = peers.find((peer) => peer.site_name === site.siteName && peer.site_id !== site.siteId);
    if (namesake !== undefined || site.siteName === config.siteName) {
      throw new Failure('already_exists', `a site named ${site.siteName} is paired already`, {
        hint: 'Give each site its own site_name in its configuration.',
      });
    }
  }

  async #keep(card: SiteCard): Promise<PeerRow> {
    const { changes, clock, db, events } = this.#context;
    const row = { ...card, paired_ms: clock.now() };
    await db.transaction().execute(async (at) => {
      await putPeer(at, row);
      await events.record(at, {
        kind: 'site.paired',
        severity: 'info',
        subject: { kind: 'site', id: card.site_id },
        message: `paired with site ${card.site_name}`,
      });
    });
    // Programs learn whom to trust through their orders.
    changes.notify('orders');
    return row;
  }

  /** Calls the manager of a paired site and checks what it answers. Throws what it throws, and unreachable. */
  async call<Schema extends TSchema>(
    peer: PeerRow,
    options: CallOptions,
    schema: Schema,
  ): Promise<Static<Schema>> {
    const target = {
      address: { host: peer.host, port: peer.port },
      siteId: peer.site_id,
      caPem: peer.ca_pem,
      credentials: this.#keys(),
    };
    const atMs = this.#context.clock.now();
    try {
      const reply = checked(schema, await call(target, { timeoutMs: PEER_TIMEOUT_MS, ...options }));
      this.#contacts.set(peer.site_id, { isReachable: true, atMs });
      return reply;
    } catch (error) {
      const failure = failureIn(error);
      const isAway = failure?.retry === 'reconnect' || failure?.code === 'certificate_invalid';
      this.#contacts.set(peer.site_id, {
        isReachable: !isAway,
        atMs,
        ...(isAway && failure !== undefined ? { failure } : {}),
      });
      if (!isAway) throw error;
      throw new Failure(failure.code, `ask the manager of site ${peer.site_name}`, {
        cause: error,
        hint: failure.hint ?? `Check that the manager of ${peer.site_name} runs and the link is up.`,
      });
    }
  }
}

/** The authority's fingerprint. Throws usage_invalid when the text is no authority's certificate. */
function readAuthority(caPem: string): string {
  try {
    const certificate = new X509Certificate(caPem);
    if (certificate.ca) return certificate.fingerprint256;
  } catch (error) {
    throw new Failure('usage_invalid', 'ca_pem is no certificate', { cause: error });
  }
  throw new Failure('usage_invalid', 'ca_pem is no certificate of an authority');
}

function parseAddress(text: string): ManagerAddress {
  const match = /^(?:\[([0-9a-f:]+)\]|([^:[\]]+)):(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) {
    throw new Failure('token_invalid', `the token's address "${text}" is not HOST:PORT`);
  }
  return { host: match[1] ?? match[2]!, port };
}

function checked<Schema extends TSchema>(schema: Schema, value: unknown): Static<Schema> {
  if (Check(schema, value)) return value;
  throw new Failure(
    'protocol_unsupported',
    'the other manager answered in a form this version does not know',
    {
      hint: 'Run the same version of Antipode at both sites.',
    },
  );
}
