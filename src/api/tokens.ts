/** Tokens that the API makes, each shown once, and pairing with another site. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name } from './common.ts';

export const JoinTokenRequest = Type.Object(
  { kind: Type.Union([Type.Literal('agent'), Type.Literal('replication-server')]) },
  closed,
);
export const AdmissionTokenReply = Type.Object({ token: Type.String(), expires_ms: Milliseconds }, closed);
export type AdmissionTokenReply = Static<typeof AdmissionTokenReply>;

export const PairingRequest = Type.Object({ token: Type.String({ maxLength: 1024 }) }, closed);

export const ApiTokenRequest = Type.Object({ name: Name }, closed);
export const ApiTokenReply = Type.Object({ id: Id, name: Name, token: Type.String() }, closed);
export const ApiTokenView = Type.Object({ id: Id, name: Name, created_ms: Milliseconds }, closed);
export type ApiTokenReply = Static<typeof ApiTokenReply>;
