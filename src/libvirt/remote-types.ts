/**
 * The compound values of libvirt's remote protocol: how domains, networks, checkpoints and typed parameters are named
 * and carried. Source: libvirt 9.0, `remote_protocol.x`.
 */
import { Failure } from '#/lib/failure.ts';
import type { XdrReader, XdrWriter } from './xdr.ts';

const UUID_BYTES = 16;

/** What identifies a domain to the daemon. `id` is -1 while it is not running, and only a memory of it otherwise. */
export type DomainRef = { name: string; uuid: string; id: number };

export type NetworkRef = { name: string; uuid: string };

export type CheckpointRef = { name: string; domain: DomainRef };

/** A named value of statistics. Integers beyond 2^53 ("unlimited") are rounded. */
export type TypedValue = number | boolean | string;

export function encodeDomainRef(writer: XdrWriter, ref: DomainRef): XdrWriter {
  return writer.string(ref.name).fixed(parseUuid(ref.uuid)).int(ref.id);
}

export function decodeDomainRef(reader: XdrReader): DomainRef {
  return { name: reader.string(), uuid: formatUuid(reader.fixed(UUID_BYTES)), id: reader.int() };
}

export function encodeNetworkRef(writer: XdrWriter, ref: NetworkRef): XdrWriter {
  return writer.string(ref.name).fixed(parseUuid(ref.uuid));
}

export function decodeNetworkRef(reader: XdrReader): NetworkRef {
  return { name: reader.string(), uuid: formatUuid(reader.fixed(UUID_BYTES)) };
}

export function encodeCheckpointRef(writer: XdrWriter, ref: CheckpointRef): XdrWriter {
  return encodeDomainRef(writer.string(ref.name), ref.domain);
}

export function decodeCheckpointRef(reader: XdrReader): CheckpointRef {
  return { name: reader.string(), domain: decodeDomainRef(reader) };
}

/** At most `max` typed parameters as a map. */
export function decodeTypedParameters(reader: XdrReader, max: number): Map<string, TypedValue> {
  return new Map(reader.array(max, (r): [string, TypedValue] => [r.string(), decodeTypedValue(r)]));
}

function decodeTypedValue(reader: XdrReader): TypedValue {
  const type = reader.int();
  switch (type) {
    case 1:
      return reader.int();
    case 2:
      return reader.uint();
    case 3:
      return reader.hyperRounded();
    case 4:
      return reader.uhyperRounded();
    case 5:
      return reader.double();
    case 6:
      return reader.int() !== 0;
    case 7:
      return reader.string();
    default:
      throw new Failure('protocol_corrupt', `decode a typed parameter of libvirt: its type is ${type}`);
  }
}

/** The 16 bytes of a UUID in its usual form. Throws `usage_invalid`. */
export function parseUuid(uuid: string): Uint8Array {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(uuid)) {
    throw new Failure('usage_invalid', `read ${JSON.stringify(uuid)} as a UUID`);
  }
  return Uint8Array.from(Buffer.from(uuid.replaceAll('-', ''), 'hex'));
}

/** Lower case, with hyphens. */
export function formatUuid(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
