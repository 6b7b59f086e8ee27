/**
 * The daemon's question who we are. On its Unix socket it asks root for nothing, and others for what is configured:
 * nothing, polkit (which answers by itself or not at all), or SASL, which is not spoken here.
 */
import { Failure } from '#/lib/failure.ts';
import type { CallOptions } from './connection.ts';
import { AUTH_TYPES_MAX } from './limits.ts';
import { Procedure } from './procedures.ts';
import type { Remote } from './remote.ts';
import type { XdrReader } from './xdr.ts';

const AuthType = { none: 0, sasl: 1, polkit: 2 } as const;

/** Must come before any other call. Throws `unauthenticated`, or LibvirtError when polkit refuses. */
export async function authenticate(remote: Remote, options: CallOptions): Promise<void> {
  const types = await remote.call(
    {
      what: 'ask libvirt how to authenticate',
      procedure: Procedure.authList,
      decode: (r: XdrReader) => r.array(AUTH_TYPES_MAX, (reader) => reader.int()),
    },
    options,
  );
  if (types.length === 0 || types.includes(AuthType.none)) return;
  if (!types.includes(AuthType.polkit)) {
    throw new Failure('unauthenticated', `authenticate to libvirt by its methods ${types.join(', ')}`, {
      hint: 'Set auth_unix_rw to "none" or "polkit" in libvirtd.conf, or run as root.',
    });
  }
  const complete = await remote.call(
    {
      what: 'authenticate to libvirt by polkit',
      procedure: Procedure.authPolkit,
      decode: (r: XdrReader) => r.int(),
    },
    options,
  );
  if (complete !== 1)
    throw new Failure('unauthenticated', 'authenticate to libvirt by polkit: it did not complete');
}
