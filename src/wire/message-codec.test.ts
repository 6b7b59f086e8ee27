import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { chance, integerBelow, SeededRandom } from '#/lib/random.ts';
import { encodeFrameHeader, FRAME_HEADER_BYTES, FrameReader } from './frame.ts';
import { decodeMessage, encodeBody, frameRule, kindNumber, SEGMENT_CHECKED_BYTES } from './message-codec.ts';
import { MESSAGES } from './message-fixture.ts';
import type { Message } from './messages.ts';
import { STAMP } from './session-fixture.ts';

function frameOf(message: Message, sequence = 0): Uint8Array {
  const parts = encodeBody(message);
  const number = kindNumber(message.kind);
  return Uint8Array.from(
    Buffer.concat([encodeFrameHeader(number, sequence, parts, frameRule(number)!), ...parts]),
  );
}

/** Bytes lose that they are a Buffer on the way, which is no difference. */
function plain(message: Message): Message {
  const entries = Object.entries(message).map(([key, value]: [string, unknown]) => [
    key,
    value instanceof Uint8Array ? Uint8Array.from(value) : value,
  ]);
  return Object.fromEntries(entries) as Message;
}

function decodeAll(bytes: Uint8Array, pieceBytes = bytes.length): Message[] {
  const reader = new FrameReader(frameRule);
  const messages: Message[] = [];
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    reader.push(bytes.subarray(at, at + pieceBytes));
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      messages.push(plain(decodeMessage(frame)));
    }
  }
  return messages;
}

/** A frame of this kind around any body, with checksums that are right. */
function frameAround(kind: Message['kind'], body: Uint8Array): Uint8Array {
  const number = kindNumber(kind);
  return Uint8Array.from(Buffer.concat([encodeFrameHeader(number, 0, [body], frameRule(number)!), body]));
}

test('every message comes back as it was, in pieces of any length', () => {
  const stream = Uint8Array.from(Buffer.concat(MESSAGES.map((message) => frameOf(message))));
  for (const pieceBytes of [1, 3, 27, 28, 29, 1000, stream.length]) {
    assert.deepEqual(decodeAll(stream, pieceBytes), MESSAGES);
  }
  assert.equal(new Set(MESSAGES.map(({ kind }) => kind)).size, 20, 'every kind has an example');
});

test('the bytes on the wire are the documented ones', () => {
  const hex = (message: Message, sequence: number): string =>
    Buffer.from(frameOf(message, sequence)).toString('hex');
  const header = '41504631' + '01' + '0f' + '0000' + '0000002c' + '23b5c0d6' + '0000000100000002';
  const body = Buffer.from(`{"stamp":"${STAMP}"}`);
  const sum = crc32(body).toString(16).padStart(8, '0');
  const golden = header.replace('23b5c0d6', sum);
  const headerSum = crc32(Buffer.from(golden, 'hex')).toString(16).padStart(8, '0');
  assert.equal(hex({ kind: 'abort', stamp: STAMP }, 2 ** 32 + 2), golden + headerSum + body.toString('hex'));
  assert.equal(
    hex({ kind: 'alive' }, 1),
    '415046310111000000000002a3a6bf430000000000000001' + 'c317fb7f' + '7b7d',
  );
  const digests: Message = {
    kind: 'digests',
    disk: 258,
    level: 0,
    first: 2 ** 40 + 5,
    digests: new Uint8Array(16),
  };
  assert.equal(
    Buffer.concat(encodeBody({ ...digests, disk: 2, level: 3 })).toString('hex'),
    '0002' + '03' + '00' + '00000001' + '0000010000000005' + '00'.repeat(16),
  );
  const piece: Message = {
    kind: 'attachment',
    sha256: 'ab'.repeat(32),
    offset: 7,
    bytes: new Uint8Array([9]),
  };
  assert.equal(Buffer.concat(encodeBody(piece)).toString('hex'), 'ab'.repeat(32) + '0000000000000007' + '09');
});

test('a stream that ends anywhere is no message, and says that it is not between two', () => {
  for (const message of MESSAGES) {
    const bytes = frameOf(message);
    for (let length = 1; length < bytes.length; length++) {
      const reader = new FrameReader(frameRule);
      reader.push(bytes.subarray(0, length));
      assert.equal(reader.next(), undefined);
      assert.equal(reader.isBetweenFrames, false);
    }
  }
});

test('no flipped bit goes unnoticed where the frame answers for it', () => {
  for (const message of MESSAGES) {
    const bytes = frameOf(message);
    // The rest of a segment is covered by its own checksum, which its keeper compares (segment.test.ts).
    const end = message.kind === 'segment' ? FRAME_HEADER_BYTES + SEGMENT_CHECKED_BYTES : bytes.length;
    for (let bit = 0; bit < end * 8; bit++) {
      const flipped = Uint8Array.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      assert.throws(() => decodeAll(flipped), isProtocolFailure, `${message.kind}: bit ${bit}`);
    }
  }
});

test('a frame of a length or kind that nothing has is refused by its header', () => {
  const header = (kind: number, length: number): Uint8Array => {
    const bytes = frameOf({ kind: 'alive' }).subarray(0, FRAME_HEADER_BYTES);
    const view = new DataView(bytes.buffer);
    view.setUint8(5, kind);
    view.setUint32(8, length);
    view.setUint32(24, crc32(bytes.subarray(0, 24)));
    return bytes;
  };
  for (const [kind, length] of [
    [0, 0],
    [19, 0],
    [255, 0],
    [kindNumber('alive'), 128 * 1024 + 1],
    [kindNumber('alive'), 2 ** 32 - 1],
    [kindNumber('segment'), 2 ** 20 + 2 ** 17],
    [kindNumber('attachment'), 256 * 1024 + 41],
  ] as const) {
    assert.throws(
      () => decodeAll(header(kind, length)),
      (error) => hasCode(error, 'protocol_corrupt'),
    );
  }
});

test('fields that are missing, unknown, or not what they should be are named', () => {
  const cases: [Message['kind'], string, RegExp][] = [
    ['begun', '{}', /begun\.segment_count: missing/],
    ['begun', '{"segment_count":1,"colour":"red"}', /unknown field "colour"/],
    ['begun', '{"segment_count":-1}', /begun\.segment_count/],
    ['begun', '{"segment_count":1.5}', /begun\.segment_count/],
    ['begun', '{"segment_count":-0}', /begun\.segment_count/],
    ['begun', '{"segment_count":9007199254740992}', /begun\.segment_count/],
    ['begun', '{"segment_count":"1"}', /begun\.segment_count/],
    ['begun', '{"segment_count":null}', /begun\.segment_count/],
    ['begun', '[]', /wrong begun/],
    ['begun', 'null', /wrong begun/],
    ['begun', '', /begun is not JSON/],
    ['begun', '\ufeff{"segment_count":1}', /begun is not JSON/],
    ['abort', '{"stamp":"00"}', /abort\.stamp/],
    ['abort', `{"stamp":"${'AB'.repeat(16)}"}`, /abort\.stamp/],
    ['abort', '{"__proto__":{"stamp":"00"}}', /abort\.stamp: missing/],
    ['acknowledged', `{"sequence":0,"stamp":"${STAMP}"}`, /acknowledged\.sequence/],
    ['attachments_wanted', '{"sha256":["00"]}', /attachments_wanted\.sha256/],
    ['attachments_wanted', `{"sha256":${JSON.stringify(Array(17).fill('00'.repeat(32)))}}`, /sha256/],
    ['attachments_offer', '{"attachments":[{"kind":"picture"}]}', /attachments\[0\]\.kind/],
    ['failure', `{"code":"x","message":"${'m'.repeat(2001)}"}`, /failure\.message/],
  ];
  for (const [kind, body, pattern] of cases) {
    assert.throws(
      () => decodeAll(frameAround(kind, new TextEncoder().encode(body))),
      (error) => error instanceof Failure && error.code === 'protocol_corrupt' && pattern.test(error.message),
      `${kind} ${body}`,
    );
  }
  const invalidUtf8 = Uint8Array.of(0x22, 0xff, 0x22);
  assert.throws(() => decodeAll(frameAround('begun', invalidUtf8)), isProtocolFailure);
});

test('names that could become a path, disks that cannot be, and windows that stand still are refused', () => {
  const open = { protocol: 1, replica_id: 'r', epoch: 1, disks: [], vm: { uuid: '1'.repeat(8), name: 'a' } };
  const uuid = '11111111-2222-3333-4444-555555555555';
  const bad = [
    { ...open, vm: { uuid: 'x', name: 'a' } },
    { ...open, vm: { uuid, name: '../a' } },
    { ...open, vm: { uuid, name: 'a\u0000' } },
    { ...open, vm: { uuid, name: '' } },
    { ...open, vm: { uuid, name: 'a' }, replica_id: '../r' },
    { ...open, vm: { uuid, name: 'a' }, disks: [{ key: 'vda', bytes: 511 }] },
    { ...open, vm: { uuid, name: 'a' }, disks: [{ key: 'vda', bytes: 513 }] },
    { ...open, vm: { uuid, name: 'a' }, disks: [{ key: 'a/b', bytes: 512 }] },
    { ...open, vm: { uuid, name: 'a' }, disks: Array(65).fill({ key: 'vda', bytes: 512 }) },
  ];
  for (const value of bad) {
    const body = new TextEncoder().encode(JSON.stringify(value));
    assert.throws(() => decodeAll(frameAround('open', body)), isProtocolFailure, JSON.stringify(value));
  }
  const window = { segment_count: 1, bytes: 4096 };
  const opened = { protocol: 1, disks: [], digest_key: DIGEST_KEY, window };
  const body = new TextEncoder().encode(JSON.stringify(opened));
  assert.throws(() => decodeAll(frameAround('opened', body)), /opened\.window\.bytes/);
});

test('noise behind right checksums never gets through as anything but a message or a named failure', () => {
  const seed = Date.now() >>> 0;
  const random = new SeededRandom(seed);
  for (let round = 0; round < 3000; round++) {
    const message = MESSAGES[integerBelow(random, MESSAGES.length)]!;
    let body = Uint8Array.from(Buffer.concat(encodeBody(message)));
    for (let edits = 1 + integerBelow(random, 4); edits > 0 && body.length > 0; edits--) {
      if (chance(random, 0.2)) body = body.subarray(0, integerBelow(random, body.length + 1));
      else body[integerBelow(random, body.length)] = integerBelow(random, 256);
    }
    try {
      decodeAll(frameAround(message.kind, body));
    } catch (error) {
      assert(isProtocolFailure(error), `seed ${seed}, round ${round}, ${message.kind}: ${String(error)}`);
    }
  }
});

function isProtocolFailure(error: unknown): boolean {
  return hasCode(error, 'protocol_corrupt') || hasCode(error, 'protocol_unsupported');
}
