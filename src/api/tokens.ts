/** Tokens that the API makes, each shown once, and pairing with another site. */
import { Type, type Static } from 'typebox';
import { Grant, GrantRequests } from './access.ts';
import { closed, Id, Milliseconds, Name, nullable } from './common.ts';

export const JoinTokenRequest = Type.Object(
  { kind: Type.Union([Type.Literal('agent'), Type.Literal('replication-server')]) },
  closed,
);
export const AdmissionTokenReply = Type.Object({ token: Type.String(), expires_ms: Milliseconds }, closed);
export type AdmissionTokenReply = Static<typeof AdmissionTokenReply>;

export const PairingRequest = Type.Object({ token: Type.String({ maxLength: 1024 }) }, closed);

export const ApiTokenRequest = Type.Object(
  {
    name: Name,
    /** Absent: an administrator's. */
    grants: Type.Optional(GrantRequests),
    /** Absent: until it is revoked. */
    expires_ms: Type.Optional(Milliseconds),
  },
  closed,
);
export const ApiTokenReply = Type.Object({ id: Id, name: Name, token: Type.String() }, closed);
export const ApiTokenView = Type.Object(
  {
    id: Id,
    name: Name,
    grants: Type.Array(Grant),
    created_ms: Milliseconds,
    expires_ms: nullable(Milliseconds),
  },
  closed,
);
export type ApiTokenView = Static<typeof ApiTokenView>;
export type ApiTokenReply = Static<typeof ApiTokenReply>;
