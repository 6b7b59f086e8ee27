/** What is exchanged when a program joins its site, and when it renews its certificate. */
import { Type, type Static } from 'typebox';
import { TrustedSite } from './orders.ts';

const Id = Type.String({ pattern: '^[0-9a-z][0-9a-z-]{0,63}$' });
const Pem = Type.String({ maxLength: 16_384 });
const closed = { additionalProperties: false };

export const MemberKind = Type.Union([Type.Literal('agent'), Type.Literal('replication-server')]);
export type MemberKind = Static<typeof MemberKind>;

export const JoinRequest = Type.Object(
  {
    token: Type.String({ maxLength: 512 }),
    kind: MemberKind,
    /** What people call it: the host's name. */
    name: Type.String({ minLength: 1, maxLength: 255, pattern: '^[^/\\x00-\\x1f]+$' }),
    csr_pem: Pem,
  },
  closed,
);
export type JoinRequest = Static<typeof JoinRequest>;

export const JoinReply = Type.Object(
  {
    id: Id,
    site_id: Id,
    certificate_pem: Pem,
    ca_pem: Pem,
    trust: Type.Array(TrustedSite, { maxItems: 64 }),
  },
  closed,
);
export type JoinReply = Static<typeof JoinReply>;

export const RenewRequest = Type.Object({ csr_pem: Pem }, closed);
export const RenewReply = Type.Object({ certificate_pem: Pem, ca_pem: Pem }, closed);
export type RenewReply = Static<typeof RenewReply>;
