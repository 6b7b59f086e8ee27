/**
 * Who is calling: root on the Unix socket, a program by its certificate, a person by a bearer token or
 * by the cookie of a session.
 *
 * TLS proves that the caller holds the key of the certificate it shows, and nothing else. Who issued it, for which
 * site, until when, and whether the program is still one of ours is decided here, for each request: a connection
 * that stays open outlives neither its certificate nor its membership.
 */
import { X509Certificate } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { TLSSocket } from 'node:tls';
import { Failure } from '#/lib/failure.ts';
import { verifiedIdentity, type SiteAuthority } from '#/lib/peer-identity.ts';
import { ADMINISTRATOR } from '#/manager/access/grants.ts';
import { checkOrigin } from '#/manager/access/origin.ts';
import { sessionSecretIn } from '#/manager/access/session-cookie.ts';
import type { Sessions } from '#/manager/access/sessions.ts';
import type { Admission } from '#/manager/admission.ts';
import type { Context } from '#/manager/context.ts';
import type { Manager } from '#/manager/manager.ts';
import type { Rebuild } from '#/manager/rebuild/rebuild.ts';
import { listPeers } from '#/manager/store/peer-store.ts';
import type { Caller } from './route.ts';

export class Authenticator {
  readonly #context: Context;
  readonly #admission: Admission;
  readonly #rebuild: Rebuild;
  readonly #sessions: Sessions;
  readonly #parsed = new Map<string, X509Certificate>();

  constructor(manager: Pick<Manager, 'context' | 'admission' | 'rebuild' | 'sessions'>) {
    this.#context = manager.context;
    this.#admission = manager.admission;
    this.#rebuild = manager.rebuild;
    this.#sessions = manager.sessions;
  }

  /** Throws certificate_invalid, token_invalid, limit_exceeded. */
  async caller(request: IncomingMessage, isUnixSocket: boolean): Promise<Caller> {
    if (isUnixSocket) return { role: 'person', name: 'root', by: 'socket', grants: ADMINISTRATOR };
    const { socket } = request;
    const certificate = socket instanceof TLSSocket ? socket.getPeerX509Certificate() : undefined;
    if (certificate !== undefined) return this.#program(certificate, socket.remoteAddress ?? 'unknown');
    const bearer = /^Bearer ([\w.-]{1,512})$/.exec(request.headers.authorization ?? '')?.[1];
    if (bearer !== undefined) {
      const { name, grants } = await this.#admission.holder(bearer, socket.remoteAddress ?? 'unknown');
      return { role: 'person', name, by: 'token', grants };
    }
    const secret = sessionSecretIn(request.headers.cookie, this.#context.identity.siteId);
    if (secret === undefined) return { role: 'anonymous' };
    checkOrigin(request.method ?? '', request.headers);
    const { name, session, grants } = await this.#sessions.person(secret);
    return { role: 'person', name, by: 'session', grants, session };
  }

  async #program(certificate: X509Certificate, address: string): Promise<Caller> {
    const { clock, identity: own, inventory } = this.#context;
    const { siteId, role, id } = verifiedIdentity(certificate, await this.#authorities(), clock.now());
    const isOwn = siteId === own.siteId;
    if (role === 'manager' && !isOwn) return { role: 'peer-manager', siteId, id };
    if (role === 'manager' || !isOwn) {
      const where = isOwn ? 'this site' : `site ${siteId}`;
      throw new Failure('certificate_invalid', `a ${role} of ${where} has no business with this manager`, {
        hint: 'Programs talk to the manager of their own site.',
      });
    }
    if (!inventory.has(role, id)) {
      await this.#rebuild.turnedAway({ kind: role, id }, certificate, address);
      throw new Failure(
        'certificate_invalid',
        `${role} ${id} was removed from this site, or its database was lost`,
        {
          hint: `Join it again with a token from: antipode join-token ${role}. After a loss: antipode rebuild`,
        },
      );
    }
    return { role, id };
  }

  async #authorities(): Promise<SiteAuthority[]> {
    const { authority, db, identity } = this.#context;
    const peers = await listPeers(db);
    return [
      { siteId: identity.siteId, certificate: this.#certificate(authority.caPem) },
      ...peers.map((peer) => ({ siteId: peer.site_id, certificate: this.#certificate(peer.ca_pem) })),
    ];
  }

  #certificate(pem: string): X509Certificate {
    const known = this.#parsed.get(pem);
    if (known !== undefined) return known;
    // A site has one authority and few pairings; more than this is leftovers.
    if (this.#parsed.size > 1000) this.#parsed.clear();
    const certificate = new X509Certificate(pem);
    this.#parsed.set(pem, certificate);
    return certificate;
  }
}
