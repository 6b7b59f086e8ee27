/**
 * The records of the log of recovery points: what each says, and its JSON (docs/storage-format.md, section 4.2).
 * Pure.
 */
import { Fields } from '#/wire/fields.ts';
import { ATTACHMENT_BYTES_MAX, ATTACHMENTS_MAX, DISK_KEY_LENGTH_MAX, DISKS_MAX } from '#/wire/limits.ts';
import type { Attachment } from '#/wire/messages.ts';
import { corrupt } from './bytes.ts';
import { DELTAS_MAX, POINTS_MAX } from './limits.ts';

/** `id` names the disk's directory and never comes back: a disk that is added again is another one, of zeroes. */
export type DiskEntry = { id: number; key: string; bytes: number };

/** A delta file: what changed after point `first - 1` up to point `last`. `level` counts how often it was merged. */
export type DeltaEntry = { number: number; first: number; last: number; level: number; bytes: number };

export type PointEntry = {
  sequence: number;
  stamp: string;
  momentMs: number;
  acknowledgedMs: number;
  epoch: number;
  consistency: 'crash' | 'quiesced' | 'off';
  disks: (DiskEntry & { root: string })[];
  attachments: Attachment[];
  /** Bytes the point took when it came. */
  bytes: number;
};

export type LogRecord =
  | { kind: 'epoch'; epoch: number }
  /** The disks of a first copy that begins, or goes on with other disks. */
  | { kind: 'first_copy'; disks: DiskEntry[] }
  /** A recovery point and its delta files, in order; the first point of a replica has none: it is the base. */
  | { kind: 'point'; point: PointEntry; deltas: DeltaEntry[] }
  | { kind: 'pruned'; sequences: number[] }
  /** One delta file takes the place of several that follow each other. */
  | { kind: 'merged'; removed: number[]; delta: DeltaEntry }
  /** The oldest delta file is in the base now. */
  | { kind: 'advanced'; removed: number; base: number }
  /** Everything that the records before it said: the first record of a log that was written anew. */
  | ({ kind: 'summary' } & LogSummary);

export type LogSummary = {
  epoch: number;
  /** The sequence of the newest point ever. */
  head: number;
  /** The point that the base holds; 0 while there is none. */
  base: number;
  nextDisk: number;
  nextDelta: number;
  firstCopy: DiskEntry[];
  deltas: DeltaEntry[];
  points: PointEntry[];
};

const TYPES = ['epoch', 'first_copy', 'point', 'pruned', 'merged', 'advanced', 'summary'] as const;
const CONSISTENCIES = ['crash', 'quiesced', 'off'] as const;
const ATTACHMENT_KINDS = ['definition', 'nvram', 'tpm'] as const;
const ID_MAX = 2 ** 32 - 1;

/** The number of the record's type in its frame, from 1. */
export function typeOf(record: LogRecord): number {
  return TYPES.indexOf(record.kind) + 1;
}

export function encodePayload(record: LogRecord): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(toJson(record)));
}

/** Throws storage_corrupt that names the field. */
export function decodePayload(type: number, payload: Uint8Array): LogRecord {
  const kind = TYPES[type - 1];
  if (kind === undefined) throw corrupt('points.log', `record type ${type}`);
  try {
    const json: unknown = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(payload));
    return Fields.read(json, kind, (fields) => readRecord(kind, fields));
  } catch (error) {
    throw corrupt('points.log', `${kind} record`, error);
  }
}

function readRecord(kind: (typeof TYPES)[number], fields: Fields): LogRecord {
  switch (kind) {
    case 'epoch':
      return { kind, epoch: fields.integer('epoch', 0) };
    case 'first_copy':
      return { kind, disks: fields.list('disks', DISKS_MAX, readDisk) };
    case 'point':
      return {
        kind,
        point: fields.object('point', readPoint),
        deltas: fields.list('deltas', DELTAS_MAX, readDelta),
      };
    case 'pruned':
      return { kind, sequences: fields.list('sequences', POINTS_MAX, (each) => each.integer('sequence', 1)) };
    case 'merged':
      return {
        kind,
        removed: fields.list('removed', DELTAS_MAX, (each) => each.integer('number', 1)),
        delta: fields.object('delta', readDelta),
      };
    case 'advanced':
      return { kind, removed: fields.integer('removed', 1), base: fields.integer('base', 1) };
    case 'summary':
      return { kind, ...readSummary(fields) };
  }
}

function readSummary(fields: Fields): LogSummary {
  return {
    epoch: fields.integer('epoch', 0),
    head: fields.integer('head', 0),
    base: fields.integer('base', 0),
    nextDisk: fields.integer('next_disk', 1),
    nextDelta: fields.integer('next_delta', 1),
    firstCopy: fields.list('first_copy', DISKS_MAX, readDisk),
    deltas: fields.list('deltas', DELTAS_MAX, readDelta),
    points: fields.list('points', POINTS_MAX, readPoint),
  };
}

function readDisk(fields: Fields): DiskEntry {
  return {
    id: fields.integer('id', 1, ID_MAX),
    key: fields.name('key', DISK_KEY_LENGTH_MAX),
    bytes: fields.integer('bytes', 0),
  };
}

function readDelta(fields: Fields): DeltaEntry {
  return {
    number: fields.integer('number', 1),
    first: fields.integer('first', 1),
    last: fields.integer('last', 1),
    level: fields.integer('level', 0),
    bytes: fields.integer('bytes', 0),
  };
}

function readPoint(fields: Fields): PointEntry {
  return {
    sequence: fields.integer('sequence', 1),
    stamp: fields.hex('stamp', 16),
    momentMs: fields.integer('moment_ms', 0),
    acknowledgedMs: fields.integer('acknowledged_ms', 0),
    epoch: fields.integer('epoch', 0),
    consistency: fields.oneOf('consistency', CONSISTENCIES),
    disks: fields.list('disks', DISKS_MAX, (disk) => ({ ...readDisk(disk), root: disk.hex('root', 16) })),
    attachments: fields.list('attachments', ATTACHMENTS_MAX, (attachment) => ({
      kind: attachment.oneOf('kind', ATTACHMENT_KINDS),
      sha256: attachment.hex('sha256', 32),
      bytes: attachment.integer('bytes', 0, ATTACHMENT_BYTES_MAX),
    })),
    bytes: fields.integer('bytes', 0),
  };
}

function toJson(record: LogRecord): unknown {
  switch (record.kind) {
    case 'epoch':
      return { epoch: record.epoch };
    case 'first_copy':
      return { disks: record.disks.map(({ id, key, bytes }) => ({ id, key, bytes })) };
    case 'point':
      return { point: pointJson(record.point), deltas: record.deltas };
    case 'pruned':
      return { sequences: record.sequences.map((sequence) => ({ sequence })) };
    case 'merged':
      return { removed: record.removed.map((number) => ({ number })), delta: record.delta };
    case 'advanced':
      return { removed: record.removed, base: record.base };
    case 'summary':
      return {
        epoch: record.epoch,
        head: record.head,
        base: record.base,
        next_disk: record.nextDisk,
        next_delta: record.nextDelta,
        first_copy: record.firstCopy,
        deltas: record.deltas,
        points: record.points.map(pointJson),
      };
  }
}

function pointJson(point: PointEntry): unknown {
  return {
    sequence: point.sequence,
    stamp: point.stamp,
    moment_ms: point.momentMs,
    acknowledged_ms: point.acknowledgedMs,
    epoch: point.epoch,
    consistency: point.consistency,
    disks: point.disks.map(({ id, key, bytes, root }) => ({ id, key, bytes, root })),
    attachments: point.attachments.map(({ kind, sha256, bytes }) => ({ kind, sha256, bytes })),
    bytes: point.bytes,
  };
}
