/** Certificate authorities and certificates for tests, made in memory. */
import 'reflect-metadata';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { identityUri, type PeerIdentity } from '#/lib/peer-identity.ts';
import type { Credentials } from './tls-socket.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const HOUR_MS = 3_600_000;

export type TestAuthority = {
  siteId: string;
  caPem: string;
  /** Issues a certificate for any URI, as a malicious authority would. */
  issue(uri: string, validity?: { fromMs?: number; untilMs?: number }): Promise<Credentials>;
  issueFor(identity: PeerIdentity, validity?: { fromMs?: number; untilMs?: number }): Promise<Credentials>;
};

export async function createAuthority(siteId: string): Promise<TestAuthority> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const name = `CN=Antipode ${siteId}`;
  const root = await X509CertificateGenerator.createSelfSigned({
    serialNumber: '01',
    name,
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + 24 * HOUR_MS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
    ],
  });
  let serial = 2;
  const issue: TestAuthority['issue'] = async (uri, validity = {}) => {
    const own = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
    const certificate = await X509CertificateGenerator.create({
      serialNumber: (serial++).toString(16).padStart(2, '0'),
      subject: 'CN=program',
      issuer: name,
      notBefore: new Date(validity.fromMs ?? Date.now() - HOUR_MS),
      notAfter: new Date(validity.untilMs ?? Date.now() + HOUR_MS),
      signingAlgorithm: ALGORITHM,
      publicKey: own.publicKey,
      signingKey: keys.privateKey,
      extensions: [
        new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth, ExtendedKeyUsage.serverAuth]),
        new SubjectAlternativeNameExtension([{ type: 'url', value: uri }]),
      ],
    });
    const pkcs8 = await crypto.subtle.exportKey('pkcs8', own.privateKey);
    return {
      certificatePem: certificate.toString('pem'),
      privateKeyPem: PemConverter.encode(pkcs8, 'PRIVATE KEY'),
    };
  };
  return {
    siteId,
    caPem: root.toString('pem'),
    issue,
    issueFor: (identity, validity) => issue(identityUri(identity), validity),
  };
}
