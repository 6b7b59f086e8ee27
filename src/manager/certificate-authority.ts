/**
 * The site's own certificate authority (docs/architecture.md, "Control"). Its key never leaves the data directory.
 *
 * Invariant: the issuer alone decides whom a certificate speaks for; of a request only the public key is taken.
 */
import 'reflect-metadata';
import { createHash, randomBytes, X509Certificate as NodeCertificate, type webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import { join } from 'node:path';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Pkcs10CertificateRequest,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
  type JsonGeneralNames,
} from '@peculiar/x509';
import { createKeyPair, createRequest, importKeyPair, KEY_ALGORITHM } from '#/control/key-pair.ts';
import type { Clock } from '#/lib/clock.ts';
import { claimText, type EpochClaim, type UnsignedClaim } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';
import { identityUri, type PeerIdentity } from '#/lib/peer-identity.ts';
import { readFileIfThere, writeSecretFile } from './secret-file.ts';

const DAY_MS = 86_400_000;
const AUTHORITY_DAYS = 7300;
/** Programs renew by themselves at two thirds of this; a program that was off for longer joins again. */
export const CERTIFICATE_DAYS = 365;
/** Certificates begin in the past, so a host whose clock is a little slow can use its own at once. */
const BACKDATE_MS = 10 * 60_000;

export type Issued = { certificatePem: string; expiresMs: number };
/** What else than an identity a certificate is for: the addresses of a server, another life span. */
export type IssueOptions = { hosts?: readonly string[]; notBeforeMs?: number; notAfterMs?: number };

export class CertificateAuthority {
  readonly caPem: string;
  /** Lower-case hex of the authority's SHA-256, which tokens carry. */
  readonly sha256: string;
  readonly #certificate: X509Certificate;
  readonly #keys: webcrypto.CryptoKeyPair;
  readonly #clock: Clock;

  private constructor(certificate: X509Certificate, keys: webcrypto.CryptoKeyPair, clock: Clock) {
    this.#certificate = certificate;
    this.#keys = keys;
    this.#clock = clock;
    this.caPem = `${certificate.toString('pem')}\n`;
    this.sha256 = createHash('sha256').update(new NodeCertificate(this.caPem).raw).digest('hex');
  }

  /** The authority in `directory`, made there the first time. */
  static async open(directory: string, siteId: string, clock: Clock): Promise<CertificateAuthority> {
    const keyPath = join(directory, 'ca.key.pem');
    const certificatePath = join(directory, 'ca.pem');
    const certificatePem = await readFileIfThere(certificatePath);
    const keyPem = await readFileIfThere(keyPath);
    if (certificatePem !== undefined && keyPem !== undefined) {
      return new CertificateAuthority(
        new X509Certificate(certificatePem),
        await importKeyPair(keyPem),
        clock,
      );
    }
    if (certificatePem !== undefined) {
      throw new Failure('storage_corrupt', `${keyPath}, the key of ${certificatePath}, is missing`, {
        hint: 'Restore it from a backup. Without it no program can join or renew its certificate.',
      });
    }
    // The certificate comes last, so a crash in between leaves a key that nothing was issued with.
    const pair = await createKeyPair();
    await writeSecretFile(keyPath, pair.privateKeyPem);
    const certificate = await selfSigned(pair.keys, siteId, clock.now());
    await writeSecretFile(certificatePath, certificate.toString('pem'));
    return new CertificateAuthority(certificate, pair.keys, clock);
  }

  /** Throws usage_invalid when the request is none, or not signed by its own key. */
  async issue(csrPem: string, identity: PeerIdentity, options: IssueOptions = {}): Promise<Issued> {
    const publicKey = await requestedKey(csrPem);
    const now = this.#clock.now();
    const notAfterMs = options.notAfterMs ?? now + CERTIFICATE_DAYS * DAY_MS;
    const names: JsonGeneralNames = [
      { type: 'url', value: identityUri(identity) },
      ...(options.hosts ?? []).map((host) => ({
        type: isIP(host) === 0 ? ('dns' as const) : ('ip' as const),
        value: host,
      })),
    ];
    const usages: string[] = [ExtendedKeyUsage.clientAuth];
    if (identity.role !== 'agent') usages.push(ExtendedKeyUsage.serverAuth);
    const certificate = await X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: [{ O: [identity.siteId] }, { CN: [`${identity.role} ${identity.id}`] }],
      issuer: this.#certificate.subjectName,
      notBefore: new Date(options.notBeforeMs ?? now - BACKDATE_MS),
      notAfter: new Date(notAfterMs),
      signingKey: this.#keys.privateKey,
      signingAlgorithm: KEY_ALGORITHM,
      publicKey,
      extensions: [
        new BasicConstraintsExtension(false, undefined, true),
        new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
        new ExtendedKeyUsageExtension(usages),
        new SubjectAlternativeNameExtension(names),
        await AuthorityKeyIdentifierExtension.create(this.#keys.publicKey),
        await SubjectKeyIdentifierExtension.create(publicKey),
      ],
    });
    return { certificatePem: `${certificate.toString('pem')}\n`, expiresMs: notAfterMs };
  }

  /** The site's word that it runs a VM from an epoch on. */
  async sign(claim: UnsignedClaim): Promise<EpochClaim> {
    return { ...claim, signature: await this.signText(claimText(claim)) };
  }

  /** Of a text whose first line says what it is (src/lib/site-signature.ts). */
  async signText(text: string): Promise<string> {
    const bytes = new TextEncoder().encode(text);
    const signature = await crypto.subtle.sign(KEY_ALGORITHM, this.#keys.privateKey, bytes);
    return Buffer.from(signature).toString('base64url');
  }

  /** A fresh key with its certificate, for the manager itself. */
  async issueWithKey(
    identity: PeerIdentity,
    options: IssueOptions = {},
  ): Promise<Issued & { privateKeyPem: string }> {
    const pair = await createKeyPair();
    const issued = await this.issue(await createRequest(pair.keys, identity.id), identity, options);
    return { ...issued, privateKeyPem: pair.privateKeyPem };
  }
}

async function selfSigned(
  keys: webcrypto.CryptoKeyPair,
  siteId: string,
  nowMs: number,
): Promise<X509Certificate> {
  return X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ O: [siteId] }, { CN: ['Antipode site authority'] }],
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(nowMs + AUTHORITY_DAYS * DAY_MS),
    signingAlgorithm: KEY_ALGORITHM,
    keys,
    extensions: [
      new BasicConstraintsExtension(true, 0, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
}

async function requestedKey(csrPem: string): Promise<webcrypto.CryptoKey> {
  try {
    const request = new Pkcs10CertificateRequest(csrPem);
    if (!(await request.verify())) throw new Error('its signature is not of its own key');
    // Only this kind of key is taken: it is what every program makes.
    return (await request.publicKey.export(KEY_ALGORITHM, ['verify'])) as webcrypto.CryptoKey;
  } catch (error) {
    throw new Failure('usage_invalid', 'csr_pem is no signing request with a P-256 key', { cause: error });
  }
}

/** 127 random bits; the top bit is clear because serial numbers are positive. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x01;
  return bytes.toString('hex');
}
