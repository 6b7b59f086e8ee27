/** A private key and the request for its certificate (PKCS #10), ECDSA on P-256, as programs make them to join. */
import 'reflect-metadata';
import { createPrivateKey, type webcrypto } from 'node:crypto';
import { PemConverter, Pkcs10CertificateRequestGenerator } from '@peculiar/x509';

export const KEY_ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export type KeyPair = { privateKeyPem: string; keys: webcrypto.CryptoKeyPair };

export async function createKeyPair(): Promise<KeyPair> {
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ['sign', 'verify']);
  const pkcs8 = await crypto.subtle.exportKey('pkcs8', keys.privateKey);
  return { privateKeyPem: `${PemConverter.encode(pkcs8, 'PRIVATE KEY')}\n`, keys };
}

/** The public key of a private key in PEM, as `importKey` takes it. */
export async function importKeyPair(privateKeyPem: string): Promise<webcrypto.CryptoKeyPair> {
  const key = createPrivateKey(privateKeyPem);
  const { d: _, ...publicJwk } = key.export({ format: 'jwk' });
  const subtle = crypto.subtle;
  return {
    privateKey: await subtle.importKey('jwk', key.export({ format: 'jwk' }), KEY_ALGORITHM, true, ['sign']),
    publicKey: await subtle.importKey('jwk', publicJwk, KEY_ALGORITHM, true, ['verify']),
  };
}

/** Asks for nothing but the key: the issuer decides every name in the certificate. */
export async function createRequest(keys: webcrypto.CryptoKeyPair, commonName: string): Promise<string> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [commonName] }],
    keys,
    signingAlgorithm: KEY_ALGORITHM,
  });
  return request.toString('pem');
}
