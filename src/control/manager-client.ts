/**
 * How agents and replication servers talk to their manager: join once, then long-poll orders and post reports over
 * mutual TLS. The caller keeps what `join` returns, retries, and carries on by its last orders meanwhile.
 */
import { Check } from 'typebox/value';
import type { TSchema } from 'typebox';
import { Failure } from '#/lib/failure.ts';
import { call, fetchAuthority, type Credentials, type ManagerAddress } from './https-client.ts';
import { JoinReply, RenewReply, type MemberKind } from './join.ts';
import { parseToken } from './join-token.ts';
import { ReportReply, type KeptByAgent, type KeptByServer } from './kept-orders.ts';
import { createKeyPair, createRequest, importKeyPair } from './key-pair.ts';
import { AgentOrders, ServerOrders } from './orders.ts';
import type { AgentReport, ServerReport } from './reports.ts';

/** What a joined program keeps on disk, in a file only it can read. */
export type Membership = JoinReply & { private_key_pem: string };

/** The manager holds a poll without news for 25 s. */
const POLL_TIMEOUT_MS = 40_000;

/** Throws token_invalid, certificate_invalid (another manager answers), unreachable, timeout. */
export async function join(
  address: ManagerAddress,
  token: string,
  member: { kind: MemberKind; name: string },
  signal?: AbortSignal,
): Promise<Membership> {
  const { kind, caSha256 } = parseToken(token);
  if (kind !== member.kind) {
    throw new Failure('token_invalid', `the token admits a ${kind}, and this is a ${member.kind}`, {
      hint: `Make one with: antipode join-token ${member.kind}`,
    });
  }
  const { siteId, caPem } = await fetchAuthority(address, caSha256, signal);
  const pair = await createKeyPair();
  const reply = await call(
    { address, siteId, caPem },
    {
      method: 'POST',
      path: '/control/v1/join',
      body: { token: token.trim(), ...member, csr_pem: await createRequest(pair.keys, member.name) },
      ...(signal === undefined ? {} : { signal }),
    },
  );
  return { ...checked(JoinReply, reply), private_key_pem: pair.privateKeyPem };
}

export class ManagerClient {
  readonly #address: ManagerAddress;
  #membership: Membership;

  constructor(address: ManagerAddress, membership: Membership) {
    this.#address = address;
    this.#membership = membership;
  }

  get membership(): Membership {
    return this.#membership;
  }

  /** Waits up to 25 s for orders of another revision than `after`; undefined when there are none. */
  async agentOrders(after: number | undefined, signal: AbortSignal): Promise<AgentOrders | undefined> {
    const reply = await this.#poll(after, signal);
    return reply === undefined ? undefined : checked(AgentOrders, reply);
  }

  /** As `agentOrders`, for a replication server. */
  async serverOrders(after: number | undefined, signal: AbortSignal): Promise<ServerOrders | undefined> {
    const reply = await this.#poll(after, signal);
    return reply === undefined ? undefined : checked(ServerOrders, reply);
  }

  async report(report: AgentReport | ServerReport, signal: AbortSignal): Promise<ReportReply> {
    const reply = await this.#call({ method: 'POST', path: '/control/v1/reports', body: report, signal });
    return checked(ReportReply, reply ?? {});
  }

  /** A manager that has lost its database asked for it. */
  async tell(kept: KeptByAgent | KeptByServer, signal: AbortSignal): Promise<void> {
    await this.#call({ method: 'POST', path: '/control/v1/kept-orders', body: kept, signal });
  }

  /** A fresh certificate for the same key and identity. Resolves with what is to be kept from now on. */
  async renew(signal: AbortSignal): Promise<Membership> {
    const keys = await importKeyPair(this.#membership.private_key_pem);
    const body = { csr_pem: await createRequest(keys, this.#membership.id) };
    const reply = await this.#call({ method: 'POST', path: '/control/v1/renew', body, signal });
    this.#membership = { ...this.#membership, ...checked(RenewReply, reply) };
    return this.#membership;
  }

  #poll(after: number | undefined, signal: AbortSignal): Promise<unknown> {
    const query = after === undefined ? '' : `?after=${after}`;
    const timeoutMs = POLL_TIMEOUT_MS;
    return this.#call({ method: 'GET', path: `/control/v1/orders${query}`, timeoutMs, signal });
  }

  #call(options: Parameters<typeof call>[1]): Promise<unknown> {
    const { site_id: siteId, ca_pem: caPem, certificate_pem: certificatePem } = this.#membership;
    const credentials: Credentials = { certificatePem, privateKeyPem: this.#membership.private_key_pem };
    return call({ address: this.#address, siteId, caPem, credentials }, options);
  }
}

function checked<Schema extends TSchema>(schema: Schema, value: unknown) {
  if (!Check(schema, value)) {
    throw new Failure('protocol_unsupported', 'the manager answered in a form this version does not know', {
      hint: 'Run the same version of Antipode at the manager and here.',
    });
  }
  return value;
}
