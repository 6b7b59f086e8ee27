/**
 * What TLS makes of certificates and keys, kept: to read them anew for every connection costs as much as the rest of
 * its handshake, and the same few are used for years.
 */
import { createHash } from 'node:crypto';
import { createSecureContext, type SecureContext, type SecureContextOptions } from 'node:tls';

/** One identity and a few peers; more only while certificates are renewed. */
const CONTEXTS_MAX = 16;
const contexts = new Map<string, SecureContext>();

/** Only PEM texts and plain values in the options, by which a context is found again. */
export function secureContextOf(options: SecureContextOptions): SecureContext {
  const key = createHash('sha256').update(JSON.stringify(options)).digest('hex');
  const known = contexts.get(key);
  if (known !== undefined) return known;
  const context = createSecureContext(options);
  for (const oldest of contexts.keys()) {
    if (contexts.size < CONTEXTS_MAX) break;
    contexts.delete(oldest);
  }
  contexts.set(key, context);
  return context;
}
