/**
 * An epoch claim: a site's signed word that it, and no other, runs a VM from an epoch on (docs/fencing.md, section 1).
 *
 * Invariant: a claim names the site that signed it. No site can speak for another, so whoever trusts the authorities of
 * two sites can tell from two claims alone which copy of the VM yields, and both sites come to the same answer.
 */
import { verify } from 'node:crypto';
import { Failure } from './failure.ts';
import type { SiteAuthority } from './peer-identity.ts';

export type UnsignedClaim = {
  vm_uuid: string;
  epoch: number;
  /** Where the VM may run. */
  site_id: string;
  issued_ms: number;
};

/** `signature` is ECDSA on P-256 with SHA-256 over `claimText`, 64 bytes (r, s) as base64url. */
export type EpochClaim = UnsignedClaim & { signature: string };

/**
 * What is signed. Its first line is one that no certificate begins with, since it is the authority's key that signs.
 */
export function claimText(claim: UnsignedClaim): string {
  const { vm_uuid: vm, epoch, site_id: site, issued_ms: issued } = claim;
  return `antipode epoch claim 1\nvm ${vm}\nepoch ${epoch}\nsite ${site}\nissued ${issued}\n`;
}

/**
 * Whether the VM belongs to `claim` rather than to `other`. A total order: the higher epoch; of two sites that raised
 * it to the same number out of each other's sight the one that did so later, and the greater site id at last.
 */
export function supersedes(claim: UnsignedClaim, other: UnsignedClaim | undefined): boolean {
  if (other === undefined) return true;
  if (claim.epoch !== other.epoch) return claim.epoch > other.epoch;
  if (claim.issued_ms !== other.issued_ms) return claim.issued_ms > other.issued_ms;
  return claim.site_id > other.site_id;
}

/** Throws certificate_invalid unless the authority of the very site that the claim names has signed it. */
export function verifyClaim(claim: EpochClaim, authorities: readonly SiteAuthority[]): void {
  const own = authorities.filter(({ siteId }) => siteId === claim.site_id);
  const what = `epoch ${claim.epoch} of VM ${claim.vm_uuid}, claimed by site ${claim.site_id}`;
  if (own.length === 0) {
    throw new Failure('certificate_invalid', `${what}: the site is not trusted`, {
      hint: 'Pair the two sites.',
    });
  }
  const text = Buffer.from(claimText(claim));
  const signature = Buffer.from(claim.signature, 'base64url');
  const isSigned = own.some(({ certificate }) =>
    verify('sha256', text, { key: certificate.publicKey, dsaEncoding: 'ieee-p1363' }, signature),
  );
  if (!isSigned) throw new Failure('certificate_invalid', `${what}: not signed by that site's authority`);
}
