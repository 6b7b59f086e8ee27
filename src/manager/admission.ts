/**
 * Who is let in: join tokens for programs, API tokens for administrators. Every secret is shown once and kept hashed.
 */
import { createHash } from 'node:crypto';
import type { JoinReply, JoinRequest, MemberKind, RenewReply } from '#/control/join.ts';
import { formatToken, parseToken, type TokenKind } from '#/control/join-token.ts';
import { Failure } from '#/lib/failure.ts';
import type { Grant } from '#/api/access.ts';
import type { Context } from './context.ts';
import { newId } from './ids.ts';
import { MEMBERS_MAX, TOKEN_LIFE_MS } from './limits.ts';
import type { Orders } from './orders.ts';
import type { WrongTokens } from './rate-limit.ts';
import type { Database } from './store/database.ts';
import { addMember, listMembers, setCertificateExpiry } from './store/member-store.ts';
import {
  addAdmissionToken,
  addApiToken,
  findAdmissionToken,
  findApiToken,
  takeAdmissionToken,
} from './store/token-store.ts';

const API_TOKEN = /^apt1\.[\w-]{43}$/;

export class Admission {
  readonly #context: Context;
  readonly #orders: Orders;
  readonly #wrong: WrongTokens;

  constructor(context: Context, orders: Orders, wrong: WrongTokens) {
    this.#context = context;
    this.#orders = orders;
    this.#wrong = wrong;
  }

  /** A token that admits one program or site within the hour. */
  async createToken(kind: TokenKind, address?: string): Promise<{ token: string; expires_ms: number }> {
    const { authority, clock, db } = this.#context;
    const secret = this.#secret();
    const createdMs = clock.now();
    const expiresMs = createdMs + TOKEN_LIFE_MS;
    await addAdmissionToken(db, { secretSha256: sha256(secret), kind, createdMs, expiresMs });
    const base = { kind, secret, caSha256: authority.sha256 };
    return {
      token: formatToken(address === undefined ? base : { ...base, address }),
      expires_ms: expiresMs,
    };
  }

  async join(request: JoinRequest, remoteAddress: string): Promise<JoinReply> {
    const { authority, changes, clock, db, events, identity, inventory, random } = this.#context;
    const id = newId(random, request.kind === 'agent' ? 'host' : 'server');
    if ((await listMembers(db)).length >= MEMBERS_MAX) {
      throw new Failure('limit_exceeded', `this site has ${MEMBERS_MAX} programs already`);
    }
    // Before the token is used up, so that a broken request costs no token.
    const issued = await authority.issue(request.csr_pem, {
      siteId: identity.siteId,
      role: request.kind,
      id,
    });
    const row = {
      id,
      kind: request.kind,
      name: request.name,
      joined_ms: clock.now(),
      certificate_expires_ms: issued.expiresMs,
    };
    await db.transaction().execute(async (at) => {
      await this.takeToken(at, { text: request.token, kind: request.kind, by: id, remoteAddress });
      await addMember(at, row);
      await events.record(at, {
        kind: 'member.joined',
        severity: 'info',
        subject: { kind: request.kind, id },
        message: `${request.kind} ${request.name} joined`,
      });
    });
    inventory.add({ ...row, removed_ms: null, report: null, report_ms: null });
    changes.notify('orders');
    return {
      id,
      site_id: identity.siteId,
      certificate_pem: issued.certificatePem,
      ca_pem: authority.caPem,
      trust: await this.#orders.trust(),
    };
  }

  async renew(member: { kind: MemberKind; id: string }, csrPem: string): Promise<RenewReply> {
    const { authority, db, identity, inventory } = this.#context;
    const subject = { siteId: identity.siteId, role: member.kind, id: member.id };
    const issued = await authority.issue(csrPem, subject);
    await setCertificateExpiry(db, member.id, issued.expiresMs);
    const known = member.kind === 'agent' ? inventory.agent(member.id) : inventory.server(member.id);
    if (known !== undefined) known.certificateExpiresMs = issued.expiresMs;
    return { certificate_pem: issued.certificatePem, ca_pem: authority.caPem };
  }

  /** Uses an admission token up, or throws token_invalid with the reason it is refused for. */
  async takeToken(
    db: Database,
    use: { text: string; kind: TokenKind; by: string; remoteAddress: string },
  ): Promise<void> {
    this.#wrong.check(use.remoteAddress);
    const nowMs = this.#context.clock.now();
    try {
      const { kind, secret } = parseToken(use.text);
      const secretSha256 = sha256(secret);
      if (kind === use.kind) {
        if (await takeAdmissionToken(db, { secretSha256, kind, nowMs, by: use.by })) return;
      }
      throw refusal(await findAdmissionToken(db, secretSha256), use.kind);
    } catch (error) {
      if (error instanceof Failure && error.code === 'token_invalid') this.#wrong.count(use.remoteAddress);
      throw error;
    }
  }

  /** `expiresMs` null: until it is revoked. */
  async createApiToken(
    name: string,
    grants: readonly Grant[],
    expiresMs: number | null,
  ): Promise<{ id: string; name: string; token: string }> {
    const { clock, db, random } = this.#context;
    if (expiresMs !== null && expiresMs <= clock.now()) {
      throw new Failure('usage_invalid', 'the token would have ended before it begins');
    }
    const id = newId(random, 'token');
    const token = `apt1.${this.#secret()}`;
    await addApiToken(db, {
      id,
      name,
      tokenSha256: sha256(token),
      grants: JSON.stringify(grants),
      createdMs: clock.now(),
      expiresMs,
    });
    return { id, name, token };
  }

  /** Whose a bearer token is, and what it may be used for. Throws token_invalid, limit_exceeded. */
  async holder(token: string, remoteAddress: string): Promise<{ name: string; grants: Grant[] }> {
    this.#wrong.check(remoteAddress);
    const { clock, db } = this.#context;
    const found = API_TOKEN.test(token) ? await findApiToken(db, sha256(token)) : undefined;
    const hint = 'Make one with: antipode token create NAME';
    if (found === undefined) {
      this.#wrong.count(remoteAddress);
      const message = 'the bearer token is not one of this site, or was revoked';
      throw new Failure('token_invalid', message, { hint });
    }
    if (found.expires_ms !== null && found.expires_ms <= clock.now()) {
      const when = new Date(found.expires_ms).toISOString();
      throw new Failure('token_invalid', `the bearer token ended at ${when}`, { hint });
    }
    return { name: found.name, grants: JSON.parse(found.grants) as Grant[] };
  }

  #secret(): string {
    return Buffer.from(this.#context.random.bytes(32)).toString('base64url');
  }
}

function refusal(record: Awaited<ReturnType<typeof findAdmissionToken>>, wantedKind: TokenKind): Failure {
  const command = wantedKind === 'pairing' ? 'antipode pair-token' : `antipode join-token ${wantedKind}`;
  const hint = `Make a new one with: ${command}`;
  if (record === undefined) {
    return new Failure('token_invalid', 'the token is not known here', { hint });
  }
  if (record.kind !== wantedKind) {
    return new Failure('token_invalid', `the token is for a ${record.kind}, not for a ${wantedKind}`, {
      hint,
    });
  }
  if (record.usedMs !== null) {
    const when = new Date(record.usedMs).toISOString();
    return new Failure('token_invalid', `the token was used already, by ${record.usedBy} at ${when}`, {
      hint,
    });
  }
  const when = new Date(record.expiresMs).toISOString();
  return new Failure('token_invalid', `the token expired at ${when}`, { hint });
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
