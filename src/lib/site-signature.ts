/**
 * A site's signature over a text: ECDSA on P-256 with SHA-256 by the key of its authority, r and s, 64 bytes, as
 * base64url. A signed text begins with a line of its own kind, which no certificate and no text of another kind begins
 * with, since it is the authority's key that signs all of them.
 */
import { verify, X509Certificate } from 'node:crypto';

export function isSignedBySite(text: string, signature: string, caPem: string): boolean {
  const key = new X509Certificate(caPem).publicKey;
  const bytes = Buffer.from(signature, 'base64url');
  return verify('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }, bytes);
}
