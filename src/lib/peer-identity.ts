/**
 * Who a program is, as its certificate says: a URI in the subject alternative name,
 * `antipode://SITE/ROLE/ID` (docs/architecture.md, "Control").
 *
 * Invariant: a site's name is only believed from a certificate which that very site's authority issued; the
 * authority of another trusted site cannot speak for it.
 */
import type { X509Certificate } from 'node:crypto';
import { Failure } from './failure.ts';

export const ROLES = ['agent', 'replication-server', 'manager'] as const;
export type Role = (typeof ROLES)[number];
export type PeerIdentity = { siteId: string; role: Role; id: string };

/** Longest subject alternative name that is looked at. */
const NAME_LENGTH_MAX = 1024;
const ID = /^[0-9a-z][0-9a-z-]{0,63}$/;

export function identityUri(identity: PeerIdentity): string {
  return `antipode://${identity.siteId}/${identity.role}/${identity.id}`;
}

/** The identity that a URI names, or undefined when it names none. */
export function parseIdentityUri(uri: string): PeerIdentity | undefined {
  if (uri.length > NAME_LENGTH_MAX || !uri.startsWith('antipode://')) return undefined;
  const parts = uri.slice('antipode://'.length).split('/');
  const [siteId, roleName, id] = parts;
  const role = ROLES.find((known) => known === roleName);
  if (parts.length !== 3 || role === undefined) return undefined;
  if (siteId === undefined || id === undefined || !ID.test(siteId) || !ID.test(id)) return undefined;
  return { siteId, role, id };
}

/** One site's authority, as a certificate in memory. */
export type SiteAuthority = { siteId: string; certificate: X509Certificate };

/**
 * Who the certificate is for, checked against the authority of the very site it names, at `nowMs`.
 * Throws Failure certificate_invalid that says which certificate it is and what is wrong with it.
 */
export function verifiedIdentity(
  certificate: X509Certificate,
  authorities: readonly SiteAuthority[],
  nowMs: number,
): PeerIdentity {
  const identity = certificateIdentity(certificate);
  const name = identityUri(identity);
  const own = authorities.filter((authority) => authority.siteId === identity.siteId);
  if (own.length === 0) {
    throw new Failure(
      'certificate_invalid',
      `certificate of ${name}: site ${identity.siteId} is not trusted`,
      {
        hint: 'Pair the two sites, or wait until the pairing has reached this program with its orders.',
      },
    );
  }
  const isIssued = own.some(
    ({ certificate: ca }) => ca.ca && certificate.checkIssued(ca) && certificate.verify(ca.publicKey),
  );
  if (!isIssued || certificate.ca) {
    throw new Failure(
      'certificate_invalid',
      `certificate of ${name}: not issued by that site's own authority`,
      {
        hint: `Join the program again with a token of site ${identity.siteId}.`,
      },
    );
  }
  checkValidity(certificate, name, nowMs);
  return identity;
}

/** Throws Failure certificate_invalid when the certificate is not valid yet, or no more. */
export function checkValidity(certificate: X509Certificate, name: string, nowMs: number): void {
  if (nowMs >= certificate.validToDate.getTime()) {
    throw new Failure('certificate_invalid', `certificate of ${name}: expired at ${certificate.validTo}`, {
      hint:
        'It is renewed by itself while its manager can be reached; once expired, join the program again: ' +
        'remove membership.json from its data_directory, and start it with a new token of its site.',
    });
  }
  if (nowMs < certificate.validFromDate.getTime()) {
    throw new Failure(
      'certificate_invalid',
      `certificate of ${name}: not valid before ${certificate.validFrom}`,
      { hint: 'Compare the clocks of the two machines.' },
    );
  }
}

/** The one identity that the subject alternative name holds, unverified. Throws Failure certificate_invalid. */
export function certificateIdentity(certificate: X509Certificate): PeerIdentity {
  const text = certificate.subjectAltName ?? '';
  const uris =
    text.length > NAME_LENGTH_MAX ? [] : text.split(', ').filter((name) => name.startsWith('URI:'));
  const identity = uris.length === 1 ? parseIdentityUri(uris[0]!.slice('URI:'.length)) : undefined;
  if (identity === undefined) {
    throw new Failure(
      'certificate_invalid',
      `certificate ${certificate.fingerprint256}: names no program of a site (antipode://SITE/ROLE/ID)`,
      { hint: 'Use the certificate that joining the site has made.' },
    );
  }
  return identity;
}
