/**
 * Control messages as JSON (docs/wire-protocol.md, section 3): what each one's fields are called and may hold.
 *
 * Invariant: decode(encode(message)) equals message; an unknown, missing or unreadable field is protocol_corrupt. Pure.
 */
import { DIGEST_KEY_BYTES } from '#/disk/digest.ts';
import assert from 'node:assert/strict';
import { Failure } from '#/lib/failure.ts';
import { Fields } from './fields.ts';
import {
  ATTACHMENT_BYTES_MAX,
  ATTACHMENTS_MAX,
  CONTROL_BYTES_MAX,
  DIGESTS_MAX,
  DISK_KEY_LENGTH_MAX,
  DISKS_MAX,
  FAILURE_TEXT_LENGTH_MAX,
  TREE_LEVEL_MAX,
  VM_NAME_LENGTH_MAX,
  WINDOW_BYTES_MAX,
  WINDOW_BYTES_MIN,
  WINDOW_SEGMENTS_MAX,
} from './limits.ts';
import type { Attachment, DiskSpec, Message, PointRef } from './messages.ts';

type Binary = 'segment' | 'digests' | 'attachment';
export type ControlMessage = Exclude<Message, { kind: Binary }>;
export type ControlKind = ControlMessage['kind'];
type Of<K extends ControlKind> = Extract<ControlMessage, { kind: K }>;

const STAMP_BYTES = 16;
const ROOT_BYTES = 16;
const SHA256_BYTES = 32;
/** Block numbers are six bytes on the wire. */
const BLOCK_MAX: number = 2 ** 48 - 1;
const ATTACHMENT_KINDS = ['definition', 'nvram', 'tpm'] as const;
const CONSISTENCIES = ['crash', 'quiesced', 'off'] as const;

type Codec<K extends ControlKind> = {
  write(message: Of<K>): Record<string, unknown>;
  read(fields: Fields): Omit<Of<K>, 'kind'>;
};

const CODECS: { [K in ControlKind]: Codec<K> } = {
  open: {
    write: (m) => ({
      protocol: m.protocol,
      replica_id: m.replicaId,
      vm: { uuid: m.vm.uuid, name: m.vm.name },
      epoch: m.epoch,
      disks: m.disks.map(writeDisk),
      ...(m.digestKey !== undefined && { digest_key: m.digestKey }),
    }),
    read: (f) => ({
      protocol: f.integer('protocol', 1),
      replicaId: f.id('replica_id'),
      vm: f.object('vm', (vm) => ({ uuid: vm.uuid('uuid'), name: vm.name('name', VM_NAME_LENGTH_MAX) })),
      epoch: f.integer('epoch', 0),
      disks: f.list('disks', DISKS_MAX, readDisk),
      ...(f.has('digest_key') && { digestKey: f.hex('digest_key', DIGEST_KEY_BYTES) }),
    }),
  },
  opened: {
    write: (m) => ({
      protocol: m.protocol,
      ...(m.head && { head: { ...writePoint(m.head), moment_ms: m.head.momentMs } }),
      disks: m.disks.map((disk) => ({ ...writeDisk(disk), root: disk.root })),
      digest_key: m.digestKey,
      ...(m.partial && { partial: { stamp: m.partial.stamp, segment_count: m.partial.segmentCount } }),
      window: { segment_count: m.window.segmentCount, bytes: m.window.bytes },
    }),
    read: (f) => ({
      protocol: f.integer('protocol', 1),
      ...(f.has('head') && {
        head: f.object('head', (h) => ({ ...readPoint(h), momentMs: h.integer('moment_ms', 0) })),
      }),
      disks: f.list('disks', DISKS_MAX, (d) => ({ ...readDisk(d), root: d.hex('root', ROOT_BYTES) })),
      digestKey: f.hex('digest_key', DIGEST_KEY_BYTES),
      ...(f.has('partial') && {
        partial: f.object('partial', (p) => ({
          stamp: p.hex('stamp', STAMP_BYTES),
          segmentCount: p.integer('segment_count', 0),
        })),
      }),
      window: f.object('window', (w) => ({
        segmentCount: w.integer('segment_count', 1, WINDOW_SEGMENTS_MAX),
        bytes: w.integer('bytes', WINDOW_BYTES_MIN, WINDOW_BYTES_MAX),
      })),
    }),
  },
  digests_get: {
    write: (m) => ({ disk: m.disk, level: m.level, first: m.first, count: m.count }),
    read: (f) => ({
      disk: f.integer('disk', 0, DISKS_MAX - 1),
      level: f.integer('level', 0, TREE_LEVEL_MAX),
      first: f.integer('first', 0, BLOCK_MAX),
      count: f.integer('count', 1, DIGESTS_MAX),
    }),
  },
  begin: {
    write: (m) => ({
      sequence: m.sequence,
      stamp: m.stamp,
      moment_ms: m.momentMs,
      ...(m.base && { base: writePoint(m.base) }),
      disks: m.disks.map(writeDisk),
    }),
    read: (f) => ({
      sequence: f.integer('sequence', 1),
      stamp: f.hex('stamp', STAMP_BYTES),
      momentMs: f.integer('moment_ms', 0),
      ...(f.has('base') && { base: f.object('base', readPoint) }),
      disks: f.list('disks', DISKS_MAX, readDisk),
    }),
  },
  begun: {
    write: (m) => ({ segment_count: m.segmentCount }),
    read: (f) => ({ segmentCount: f.integer('segment_count', 0) }),
  },
  credit: {
    write: (m) => ({ segment_count: m.segmentCount, bytes: m.bytes }),
    read: (f) => ({ segmentCount: f.integer('segment_count', 0), bytes: f.integer('bytes', 0) }),
  },
  attachments_offer: {
    write: (m) => ({ attachments: m.attachments.map(writeAttachment) }),
    read: (f) => ({ attachments: f.list('attachments', ATTACHMENTS_MAX, readAttachment) }),
  },
  attachments_wanted: {
    write: (m) => ({ sha256: m.sha256 }),
    read: (f) => ({ sha256: f.hexList('sha256', ATTACHMENTS_MAX, SHA256_BYTES) }),
  },
  attachment_taken: {
    write: (m) => ({ sha256: m.sha256, bytes: m.bytes }),
    read: (f) => ({
      sha256: f.hex('sha256', SHA256_BYTES),
      bytes: f.integer('bytes', 0, ATTACHMENT_BYTES_MAX),
    }),
  },
  commit: {
    write: (m) => ({
      stamp: m.stamp,
      segment_count: m.segmentCount,
      roots: m.roots,
      attachments: m.attachments.map(writeAttachment),
      consistency: m.consistency,
    }),
    read: (f) => ({
      stamp: f.hex('stamp', STAMP_BYTES),
      segmentCount: f.integer('segment_count', 0),
      roots: f.hexList('roots', DISKS_MAX, ROOT_BYTES),
      attachments: f.list('attachments', ATTACHMENTS_MAX, readAttachment),
      consistency: f.oneOf('consistency', CONSISTENCIES),
    }),
  },
  acknowledged: { write: writePoint, read: readPoint },
  abort: {
    write: (m) => ({ stamp: m.stamp }),
    read: (f) => ({ stamp: f.hex('stamp', STAMP_BYTES) }),
  },
  aborted: { write: () => ({}), read: () => ({}) },
  close: { write: () => ({}), read: () => ({}) },
  closed: { write: () => ({}), read: () => ({}) },
  alive: { write: () => ({}), read: () => ({}) },
  failure: {
    write: (m) => ({ code: m.code, message: m.message, ...(m.hint !== undefined && { hint: m.hint }) }),
    read: (f) => ({
      code: f.text('code', 64),
      message: f.text('message', FAILURE_TEXT_LENGTH_MAX),
      ...(f.has('hint') && { hint: f.text('hint', FAILURE_TEXT_LENGTH_MAX) }),
    }),
  },
};

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export function encodeControl(message: ControlMessage): Uint8Array {
  const codec = CODECS[message.kind] as Codec<ControlKind>;
  const bytes = encoder.encode(JSON.stringify(codec.write(message)));
  assert(bytes.length <= CONTROL_BYTES_MAX, `${message.kind} of ${bytes.length} bytes`);
  return bytes;
}

/** Throws Failure protocol_corrupt that names the message and the field. */
export function decodeControl(kind: ControlKind, body: Uint8Array): ControlMessage {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(body));
  } catch (error) {
    throw new Failure('protocol_corrupt', `decode message: ${kind} is not JSON`, { cause: error });
  }
  const codec = CODECS[kind] as Codec<ControlKind>;
  return { kind, ...Fields.read(value, kind, (fields) => codec.read(fields)) } as ControlMessage;
}

function writePoint(point: PointRef): Record<string, unknown> {
  return { sequence: point.sequence, stamp: point.stamp };
}

function readPoint(fields: Fields): PointRef {
  return { sequence: fields.integer('sequence', 1), stamp: fields.hex('stamp', STAMP_BYTES) };
}

function writeDisk(disk: DiskSpec): Record<string, unknown> {
  return { key: disk.key, bytes: disk.bytes };
}

function readDisk(fields: Fields): DiskSpec {
  const disk = { key: fields.name('key', DISK_KEY_LENGTH_MAX), bytes: fields.integer('bytes', 512) };
  if (disk.bytes % 512 !== 0 || disk.bytes / 4096 > BLOCK_MAX) {
    throw new Failure('protocol_corrupt', `decode message: wrong length ${disk.bytes} of disk ${disk.key}`);
  }
  return disk;
}

function writeAttachment(attachment: Attachment): Record<string, unknown> {
  return { kind: attachment.kind, sha256: attachment.sha256, bytes: attachment.bytes };
}

function readAttachment(fields: Fields): Attachment {
  return {
    kind: fields.oneOf('kind', ATTACHMENT_KINDS),
    sha256: fields.hex('sha256', SHA256_BYTES),
    bytes: fields.integer('bytes', 0, ATTACHMENT_BYTES_MAX),
  };
}
