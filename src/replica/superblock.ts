/**
 * The superblock: whose replica a directory holds, and in which version of the format (docs/storage-format.md,
 * section 2).
 *
 *   offset  bytes  field
 *        0      4  magic "APR1"
 *        4      2  version, 1
 *        6      2  zero
 *        8      4  length L of the identity
 *       12      4  crc32 of bytes 0 to 11 and the identity
 *       16      L  identity, JSON in UTF-8: {"replica_id","vm":{"uuid","name"},"site_id","digest_key"}
 *
 * Written once, when the replica is created. Pure.
 */
import { hash } from 'node:crypto';
import { DIGEST_KEY_BYTES } from '#/disk/digest.ts';
import { Fields } from '#/wire/fields.ts';
import { VM_NAME_LENGTH_MAX } from '#/wire/limits.ts';
import { corrupt, crcAround, viewOf } from './bytes.ts';
import { SUPERBLOCK_BYTES_MAX } from './limits.ts';
import type { ReplicaIdentity } from './replica.ts';

const MAGIC = 0x41505231;
const VERSION = 1;
const HEADER_BYTES = 16;
const CRC_AT = 12;
const WHERE = 'superblock';

export function encodeSuperblock({ replicaId, vm, siteId, digestKey }: ReplicaIdentity): Uint8Array {
  const json = new TextEncoder().encode(
    JSON.stringify({
      replica_id: replicaId,
      vm: { uuid: vm.uuid, name: vm.name },
      site_id: siteId,
      digest_key: digestKey,
    }),
  );
  const bytes = new Uint8Array(HEADER_BYTES + json.length);
  const view = viewOf(bytes);
  view.setUint32(0, MAGIC);
  view.setUint16(4, VERSION);
  view.setUint32(8, json.length);
  bytes.set(json, HEADER_BYTES);
  view.setUint32(CRC_AT, crcAround(bytes, CRC_AT));
  return bytes;
}

/** Throws storage_corrupt that names the field. */
export function decodeSuperblock(bytes: Uint8Array): ReplicaIdentity {
  if (bytes.length < HEADER_BYTES || bytes.length > SUPERBLOCK_BYTES_MAX) throw corrupt(WHERE, 'length');
  const view = viewOf(bytes);
  if (view.getUint32(0) !== MAGIC) throw corrupt(WHERE, 'magic');
  if (view.getUint16(4) !== VERSION) throw corrupt(WHERE, `version ${view.getUint16(4)}`);
  if (view.getUint16(6) !== 0) throw corrupt(WHERE, 'reserved bytes');
  if (bytes.length !== HEADER_BYTES + view.getUint32(8)) throw corrupt(WHERE, 'length');
  if (view.getUint32(CRC_AT) !== crcAround(bytes, CRC_AT)) throw corrupt(WHERE, 'checksum');
  try {
    const json: unknown = JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(HEADER_BYTES)),
    );
    return Fields.read(json, WHERE, (fields) => ({
      replicaId: fields.id('replica_id'),
      vm: fields.object('vm', (vm) => ({ uuid: vm.uuid('uuid'), name: vm.name('name', VM_NAME_LENGTH_MAX) })),
      siteId: fields.id('site_id'),
      digestKey: fields.hex('digest_key', DIGEST_KEY_BYTES),
    }));
  } catch (error) {
    throw corrupt(WHERE, 'identity', error);
  }
}

/** What every other file of a replica carries, so that a file of another replica is noticed: 16 bytes. */
export function replicaTag(replicaId: string): Uint8Array {
  return Uint8Array.from(hash('sha256', replicaId, 'buffer').subarray(0, 16));
}
