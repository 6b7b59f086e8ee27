/**
 * The text of a token that admits a program or a site, once: `ap1.KIND.SECRET.CA`, and `.ADDRESS` for pairing.
 * CA is the SHA-256 of the issuing site's certificate authority, so whoever holds the token knows whom to trust
 * before sending the secret to anybody.
 */
import { Failure } from '#/lib/failure.ts';

export type TokenKind = 'agent' | 'replication-server' | 'pairing';
export type AdmissionToken = {
  kind: TokenKind;
  secret: string;
  /** Lower-case hex. */
  caSha256: string;
  /** HOST:PORT of the issuing manager; pairing tokens only. */
  address?: string;
};

const TOKEN = /^ap1\.(agent|replication-server|pairing)\.([\w-]{43})\.([0-9a-f]{64})(?:\.([\w-]{1,360}))?$/;

export function formatToken(token: AdmissionToken): string {
  const parts = ['ap1', token.kind, token.secret, token.caSha256];
  if (token.address !== undefined) parts.push(Buffer.from(token.address).toString('base64url'));
  return parts.join('.');
}

/** Throws token_invalid; the message never repeats the token. */
export function parseToken(text: string): AdmissionToken {
  const match = TOKEN.exec(text.trim());
  const kind = match?.[1] as TokenKind | undefined;
  if (match === null || kind === undefined || (kind === 'pairing') !== (match[4] !== undefined)) {
    throw new Failure('token_invalid', 'the token is not one of Antipode, or was cut while copying', {
      hint: 'Copy the whole token, which begins with "ap1.", or make a new one.',
    });
  }
  const token: AdmissionToken = { kind, secret: match[2]!, caSha256: match[3]! };
  if (match[4] !== undefined) token.address = Buffer.from(match[4], 'base64url').toString();
  return token;
}
