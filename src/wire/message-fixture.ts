/** One message of every kind, with every optional field there and away, for the tests of codec and session. */
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import type { Message } from './messages.ts';
import { dataSegment, ROOT, STAMP } from './session-fixture.ts';

const SHA256 = 'c0'.repeat(32);
const POINT = { sequence: 7, stamp: STAMP };
const DISK = { key: 'vda', bytes: 1024 * 1024 };
const ATTACHMENT = { kind: 'nvram' as const, sha256: SHA256, bytes: 540_672 };
const WINDOW = { segmentCount: 256, bytes: 16 * 1024 * 1024 };

export const MESSAGES: Message[] = [
  {
    kind: 'open',
    protocol: 1,
    replicaId: 'replica-1',
    vm: { uuid: '11111111-2222-3333-4444-555555555555', name: 'Bücher "und" mehr' },
    epoch: 3,
    disks: [DISK, { key: 'vdb', bytes: 512 }],
  },
  {
    kind: 'open',
    protocol: 1,
    replicaId: 'replica-1',
    vm: { uuid: '11111111-2222-3333-4444-555555555555', name: 'web' },
    epoch: 3,
    disks: [],
    digestKey: DIGEST_KEY,
  },
  { kind: 'opened', protocol: 1, disks: [], digestKey: DIGEST_KEY, window: WINDOW },
  {
    kind: 'opened',
    protocol: 1,
    head: { ...POINT, momentMs: 1_700_000_000_000 },
    disks: [{ ...DISK, root: ROOT }],
    digestKey: DIGEST_KEY,
    partial: { stamp: STAMP, segmentCount: 12 },
    window: WINDOW,
  },
  { kind: 'digests_get', disk: 1, level: 2, first: 2 ** 40, count: 32_768 },
  { kind: 'digests', disk: 1, level: 0, first: 2 ** 40, digests: new Uint8Array(48).map((_, i) => i) },
  { kind: 'begin', ...POINT, momentMs: 5, disks: [DISK] },
  { kind: 'begin', ...POINT, momentMs: 5, base: { sequence: 6, stamp: 'ef'.repeat(16) }, disks: [DISK] },
  { kind: 'begun', segmentCount: 0 },
  { kind: 'segment', index: 2 ** 33 + 1, segment: dataSegment(3) },
  { kind: 'credit', segmentCount: 64, bytes: 4_000_000 },
  { kind: 'attachments_offer', attachments: [ATTACHMENT] },
  { kind: 'attachments_wanted', sha256: [SHA256] },
  { kind: 'attachment', sha256: SHA256, offset: 262_144, bytes: new Uint8Array([1, 2, 3]) },
  { kind: 'attachment_taken', sha256: SHA256, bytes: 262_147 },
  {
    kind: 'commit',
    stamp: STAMP,
    segmentCount: 9,
    roots: [ROOT],
    attachments: [ATTACHMENT],
    consistency: 'quiesced',
  },
  { kind: 'acknowledged', ...POINT },
  { kind: 'abort', stamp: STAMP },
  { kind: 'aborted' },
  { kind: 'close' },
  { kind: 'closed' },
  { kind: 'alive' },
  { kind: 'failure', code: 'storage_full', message: 'write segment' },
  { kind: 'failure', code: 'storage_full', message: 'write segment', hint: 'Make room.' },
];
