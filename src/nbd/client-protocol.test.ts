/** The client's codecs against golden, truncated, flipped and lying bytes, without sockets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { ByteQueue } from './byte-queue.ts';
import { askAvailableContexts, askExports, enterExport, greet, type Channel } from './client-handshake.ts';
import { Coverage } from './coverage.ts';
import { encodeOptionReply, PayloadWriter } from './option-codec.ts';
import { PendingRead, PendingStatus, type PendingReply } from './pending-reply.ts';
import { OPTION, REPLY } from './protocol.ts';
import { ReplyReader } from './reply-reader.ts';
import {
  encodeBlockStatus,
  encodeDataHeader,
  encodeError,
  encodeHole,
  encodeSimpleReply,
} from './request-codec.ts';

const GREETING = '4e42444d4147494349484156454f50540003';
const MAGIC = '0003e889045565a9';
const ACK = (option: string): string => `${MAGIC}${option}0000000100000000`;
/** Structured replies, base:allocation as id 1, 1 MiB read-only, block sizes 1, 4096, 32 MiB. */
const NEGOTIATION =
  GREETING +
  ACK('00000008') +
  `${MAGIC}0000000a000000040000001300000001${Buffer.from('base:allocation').toString('hex')}` +
  ACK('0000000a') +
  `${MAGIC}00000007000000030000000c000000000000001000000103` +
  `${MAGIC}00000007000000030000000e0003000000010000100002000000` +
  ACK('00000007');

/** A server that has already said all it will ever say. */
function channelOf(bytes: Uint8Array): Channel & { sent: Uint8Array[] } {
  const queue = new ByteQueue(1024 * 1024);
  queue.push(bytes);
  queue.end(new Failure('unreachable', 'the server said no more'));
  const sent: Uint8Array[] = [];
  return { sent, read: (count) => queue.read(count), write: (part) => void sent.push(part) };
}

function fromHex(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'));
}

async function negotiate(bytes: Uint8Array): Promise<unknown> {
  const channel = channelOf(bytes);
  await greet(channel);
  return enterExport(channel, 'vda', ['base:allocation']);
}

test('negotiates with golden bytes on both sides', async () => {
  const channel = channelOf(fromHex(NEGOTIATION));
  await greet(channel);
  const info = await enterExport(channel, 'vda', ['base:allocation']);
  assert.deepEqual(info, {
    bytes: 1024 * 1024,
    flags: 0x103,
    blockMin: 1,
    blockPreferred: 4096,
    blockMax: 32 * 1024 * 1024,
    isStructured: true,
    canMultiConn: true,
    description: '',
    contexts: new Map([[1, 'base:allocation']]),
  });
  assert.deepEqual(
    channel.sent.map((part) => Buffer.from(part).toString('hex')),
    [
      '00000003',
      '49484156454f50540000000800000000',
      `49484156454f50540000000a0000001e000000037664610000000100${'00000f'}${Buffer.from('base:allocation').toString('hex')}`,
      '49484156454f5054000000070000000d00000003766461000200030002',
    ],
  );
});

async function isFailureOrValue(run: () => Promise<unknown>): Promise<void> {
  await run().then(
    () => undefined,
    (error: unknown) => assert.ok(error instanceof Failure, String(error)),
  );
}

test('every prefix of a negotiation is unreachable, every flipped bit a Failure or a value', async () => {
  const whole = fromHex(NEGOTIATION);
  for (let length = 0; length < whole.length; length++) {
    await assert.rejects(negotiate(whole.subarray(0, length)), { code: 'unreachable' });
  }
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const bytes = whole.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    await isFailureOrValue(() => negotiate(bytes));
  }
});

test('names what is wrong with a negotiation', async () => {
  const reply = (option: number, type: number, payload: Uint8Array): Uint8Array =>
    encodeOptionReply(option, type, payload);
  const prefix = fromHex(GREETING);
  const after = (...parts: Uint8Array[]): Uint8Array => Buffer.concat([prefix, ...parts]);
  const none = new Uint8Array(0);
  const structured = reply(OPTION.structuredReply, REPLY.unsupported, none);
  const info = (payload: PayloadWriter): Uint8Array => reply(OPTION.go, REPLY.info, payload.end());
  const size = info(new PayloadWriter().u16(0).u64(512).u16(1));
  const sizes = (...three: [number, number, number]): Uint8Array =>
    info(new PayloadWriter().u16(3).u32(three[0]).u32(three[1]).u32(three[2]));
  const ack = reply(OPTION.go, REPLY.ack, none);
  const cases: [Uint8Array, string][] = [
    [Buffer.from('HTTP/1.1 400 Bad Request'), 'protocol_corrupt'],
    [fromHex('4e42444d414749430000420281861253' + '0000'), 'protocol_unsupported'],
    [fromHex(`${GREETING.slice(0, 32)}0000`), 'protocol_unsupported'],
    [after(structured, reply(OPTION.go, REPLY.unknown, Buffer.from('no such export'))), 'not_found'],
    [after(structured, reply(OPTION.go, REPLY.policy, none)), 'nbd_error'],
    [after(structured, reply(OPTION.go, REPLY.tlsRequired, none)), 'protocol_unsupported'],
    [after(structured, reply(OPTION.go, REPLY.shutdown, none)), 'unreachable'],
    [after(structured, ack), 'protocol_corrupt'],
    [after(structured, size, sizes(3, 4096, 8192), ack), 'protocol_corrupt'],
    [after(structured, size, sizes(4096, 512, 8192), ack), 'protocol_corrupt'],
    [after(structured, size, sizes(1, 4096, 0), ack), 'protocol_corrupt'],
    [after(structured, reply(OPTION.list, REPLY.ack, none)), 'protocol_corrupt'],
    [after(structured, Buffer.from(`${MAGIC}0000000700000003ffffffff`, 'hex')), 'protocol_corrupt'],
  ];
  for (const [bytes, code] of cases) {
    await assert.rejects(negotiate(bytes), (error) => error instanceof Failure && error.code === code, code);
  }
  assert.equal(((await negotiate(after(structured, size, ack))) as { bytes: number }).bytes, 512);
});

test('an endless list of exports or contexts is refused', async () => {
  const server = encodeOptionReply(OPTION.list, REPLY.server, new PayloadWriter().string('a').end());
  const channel = channelOf(Buffer.concat(Array.from({ length: 5000 }, () => server)));
  await assert.rejects(askExports(channel), { code: 'protocol_corrupt' });
  const context = encodeOptionReply(
    OPTION.listMetaContext,
    REPLY.metaContext,
    new PayloadWriter().u32(0).text('x').end(),
  );
  const ack = encodeOptionReply(OPTION.structuredReply, REPLY.ack, new Uint8Array(0));
  const contexts = channelOf(Buffer.concat([ack, ...Array.from({ length: 5000 }, () => context)]));
  await assert.rejects(askAvailableContexts(contexts, 'vda'), { code: 'protocol_corrupt' });
});

const OFFSET = 4096;
const LENGTH = 64;

/** A reader with a read of 64 bytes at 4096 (cookie 1) and a block status (cookie 2) in flight. */
class Bench {
  readonly memory = new Uint8Array(LENGTH + 32).fill(0xee);
  readonly read = new PendingRead(OFFSET, this.memory.subarray(16, 16 + LENGTH));
  readonly status = new PendingStatus(OFFSET, 8192, 1);
  readonly done = new Map<number, Failure | undefined>();
  readonly reader: ReplyReader;

  constructor(isStructured = true) {
    const requests = new Map<number, PendingReply>([
      [1, this.read],
      [2, this.status],
    ]);
    this.reader = new ReplyReader({
      isStructured,
      contexts: new Map([[1, 'base:allocation']]),
      find: (cookie) => requests.get(cookie),
      done: (cookie, failure) => {
        requests.delete(cookie);
        this.done.set(cookie, failure);
      },
    });
  }

  /** Feeds bytes; undefined, or the code of the Failure it threw. Memory around the target stays as it was. */
  feed(bytes: Uint8Array): string | undefined {
    let code: string | undefined;
    try {
      this.reader.feed(bytes);
    } catch (error) {
      assert.ok(error instanceof Failure, String(error));
      code = error.code;
    }
    const around = [...this.memory.subarray(0, 16), ...this.memory.subarray(16 + LENGTH)];
    assert.ok(around.every((byte) => byte === 0xee));
    return code;
  }
}

const cookie = (number: number): Uint8Array => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, number);

function data(offset: number, length: number, isLast: boolean): Uint8Array {
  const header = encodeDataHeader(cookie(1), { offset, length, isLast });
  return Buffer.concat([header, new Uint8Array(length).fill(7)]);
}

/** Data, a hole, and the extents of a block status. */
function replies(): Uint8Array {
  return Buffer.concat([
    data(OFFSET, 32, false),
    encodeHole(cookie(1), { offset: OFFSET + 32, length: 32, isLast: true }),
    encodeBlockStatus(cookie(2), 1, [
      { length: 4096, flags: 0 },
      { length: 65_536, flags: 3 },
    ]),
  ]);
}

test('reads data, holes and extents whatever the pieces they arrive in', () => {
  for (let piece = 1; piece <= replies().length; piece++) {
    const bench = new Bench();
    const bytes = replies();
    for (let at = 0; at < bytes.length; at += piece)
      assert.equal(bench.feed(bytes.subarray(at, at + piece)), undefined);
    assert.deepEqual([...bench.done], [[1, undefined], [2, undefined]]); // prettier-ignore
    assert.ok(bench.read.target!.subarray(0, 32).every((byte) => byte === 7));
    assert.ok(bench.read.target!.subarray(32).every((byte) => byte === 0));
    assert.deepEqual(bench.status.lists.get(1)!.extents, [
      { offset: 4096, length: 4096, flags: 0 },
      { offset: 8192, length: 65_536, flags: 3 },
    ]);
  }
});

test('a flipped bit in replies is a Failure, or a request answered or still open', () => {
  const whole = replies();
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const bytes = whole.slice();
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    const code = new Bench().feed(bytes);
    assert.ok(code === undefined || code === 'protocol_corrupt', String(code));
  }
});

test('replies that answer twice, not wholly, elsewhere or at the wrong length are corrupt', () => {
  const hole = (offset: number, length: number): Uint8Array =>
    encodeHole(cookie(1), { offset, length, isLast: true });
  const error = (change: (bytes: Uint8Array) => void): Uint8Array => {
    const bytes = encodeError(cookie(1), 5, 'broken');
    change(bytes);
    return bytes;
  };
  const cases: Record<string, Uint8Array> = {
    twice: Buffer.concat([data(OFFSET, 32, false), data(OFFSET, 32, true)]),
    overlapping: Buffer.concat([data(OFFSET, 40, false), data(OFFSET + 32, 32, true)]),
    gap: data(OFFSET, 32, true),
    before: data(OFFSET - 1, 64, true),
    after: data(OFFSET + 1, 64, true),
    long: data(OFFSET, 65, true),
    'hole beyond': hole(OFFSET + 32, 33),
    'empty hole': hole(OFFSET, 0),
    'huge hole': hole(OFFSET, 2 ** 32 - 1),
    'hole far away': hole(2 ** 52, 64),
    'unknown cookie': encodeSimpleReply(cookie(9), 5),
    'simple data reply': encodeSimpleReply(cookie(1), 0),
    'status for a read': encodeBlockStatus(cookie(1), 1, [{ length: 1, flags: 0 }]),
    'unknown context': encodeBlockStatus(cookie(2), 7, [{ length: 1, flags: 0 }]),
    'empty extent': encodeBlockStatus(cookie(2), 1, [{ length: 0, flags: 0 }]),
    'extents beyond': encodeBlockStatus(
      cookie(2),
      1,
      [8192, 1].map((length) => ({ length, flags: 0 })),
    ),
    'no extents': encodeBlockStatus(cookie(2), 1, []),
    'error zero': error((bytes) => void bytes.fill(0, 20, 24)),
    'error too long': error((bytes) => void (bytes[16] = 1)),
    'message too long': error((bytes) => void (bytes[24] = 1)),
    'unknown chunk': error((bytes) => void (bytes[6] = 0)),
    'wrong magic': new Uint8Array(16).fill(1),
  };
  for (const [name, bytes] of Object.entries(cases)) {
    assert.equal(new Bench().feed(bytes), 'protocol_corrupt', name);
  }
});

test('an error chunk fails its request with the number and the message', () => {
  const bench = new Bench();
  bench.feed(encodeError(cookie(1), 28, 'disk full\u001b'));
  const failure = bench.done.get(1)!;
  assert.equal(failure.code, 'nbd_error');
  assert.match((failure.cause as Error).message, /ENOSPC, saying "disk full\\u001b"/);
});

test('a server without structured replies is understood, and one that has them nevertheless is not', () => {
  const bench = new Bench(false);
  bench.feed(Buffer.concat([encodeSimpleReply(cookie(1), 0), new Uint8Array(LENGTH).fill(3)]));
  assert.ok(bench.done.has(1) && bench.read.target!.every((byte) => byte === 3));
  assert.equal(new Bench(false).feed(replies()), 'protocol_corrupt');
});

test('coverage agrees with a map of bytes', () => {
  const seed = Date.now() % 2 ** 32;
  const random = new SeededRandom(seed);
  for (let round = 0; round < 300; round++) {
    const coverage = new Coverage();
    const covered = new Uint8Array(40);
    for (let step = 0; step < 30; step++) {
      const start = integerBelow(random, 40);
      const end = start + 1 + integerBelow(random, Math.min(6, 40 - start));
      const isFree = covered.subarray(start, end).every((byte) => byte === 0);
      assert.equal(coverage.add(start, end), isFree, `seed ${seed}, round ${round}`);
      if (!isFree) break;
      covered.fill(1, start, end);
      assert.equal(coverage.isComplete(40), covered.every((byte) => byte === 1)); // prettier-ignore
    }
  }
});
