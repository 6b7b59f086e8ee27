/**
 * The manager's own key and certificate: made at the first start, and again when less than a third of its life is left
 * or its address has changed.
 */
import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { Context } from './context.ts';
import { readFileIfThere, writeSecretFile } from './secret-file.ts';

export type OwnKeys = { certificatePem: string; privateKeyPem: string };

/** One file holds both, so a crash never leaves a key beside another key's certificate. */
export async function openManagerKeys(
  context: Pick<Context, 'authority' | 'clock' | 'config' | 'identity'>,
): Promise<OwnKeys> {
  const { authority, clock, config, identity } = context;
  const path = join(config.dataDirectory, 'manager-keys.json');
  const text = await readFileIfThere(path);
  if (text !== undefined) {
    const keys = JSON.parse(text) as OwnKeys;
    if (isGood(keys.certificatePem, config.advertisedHost, clock.now())) return keys;
  }
  const { certificatePem, privateKeyPem } = await authority.issueWithKey(
    { siteId: identity.siteId, role: 'manager', id: identity.managerId },
    { hosts: [...new Set([config.advertisedHost, 'localhost', '127.0.0.1', '::1'])] },
  );
  await writeSecretFile(path, `${JSON.stringify({ certificatePem, privateKeyPem })}\n`);
  return { certificatePem, privateKeyPem };
}

function isGood(certificatePem: string, host: string, nowMs: number): boolean {
  const certificate = new X509Certificate(certificatePem);
  const beginMs = certificate.validFromDate.getTime();
  const endMs = certificate.validToDate.getTime();
  const isNamed =
    isIP(host) === 0 ? certificate.checkHost(host) !== undefined : certificate.checkIP(host) !== undefined;
  return isNamed && nowMs < endMs - (endMs - beginMs) / 3;
}
