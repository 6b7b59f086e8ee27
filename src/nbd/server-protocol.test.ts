/** The server's side of the protocol, byte by byte: refusals that leave the connection alive, bounds, hostile bytes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CountedDisk } from '#/disk/counted-disk.ts';
import { MemoryDisk } from '#/disk/memory-disk.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { NbdServer } from './nbd-server.ts';
import { encodeOption, PayloadReader, PayloadWriter, setUint64, view } from './option-codec.ts';
import { CHUNK, COMMAND, COMMAND_FLAG, ERRNO, OPTION, REPLY, REQUEST_MAGIC } from './protocol.ts';
import { RawClient } from './raw-client.ts';

const LIMIT = { timeout: 60_000 };
const DISK_BYTES = 1024 * 1024;

/** Data in the first 64 KiB and at 512 KiB, zeroes between and after. */
function content(): Uint8Array {
  const bytes = new Uint8Array(DISK_BYTES);
  bytes.fill(1, 0, 65_536);
  bytes.fill(2, 524_288, 528_384);
  return bytes;
}

function serverWith(disk = new MemoryDisk(content()) as MemoryDisk | CountedDisk): NbdServer {
  const server = new NbdServer();
  server.addExport('vda', disk, 'first');
  return server;
}

async function entered(server: NbdServer): Promise<RawClient> {
  const client = new RawClient(server);
  await client.enter('vda');
  return client;
}

test('greets with the bytes of fixed newstyle', LIMIT, async () => {
  await using server = serverWith();
  const client = new RawClient(server);
  assert.equal(Buffer.from(await client.read(18)).toString('hex'), '4e42444d4147494349484156454f50540003');
});

test('answers options with golden bytes', LIMIT, async () => {
  await using server = serverWith();
  const client = new RawClient(server);
  await client.greet();
  const magic = '0003e889045565a9';
  client.write(encodeOption(OPTION.list, new Uint8Array(0)));
  const list = `${magic}00000003000000020000000c00000003766461` + Buffer.from('first').toString('hex');
  assert.equal(Buffer.from(await client.read(32)).toString('hex'), list);
  assert.equal(Buffer.from(await client.read(20)).toString('hex'), `${magic}000000030000000100000000`);
  client.write(encodeOption(OPTION.go, new PayloadWriter().string('vda').u16(0).end()));
  const size = `${magic}00000007000000030000000c000000000000001000000507`;
  assert.equal(Buffer.from(await client.read(32)).toString('hex'), size);
  const blocks = `${magic}00000007000000030000000e0003000000010000100002000000`;
  assert.equal(Buffer.from(await client.read(34)).toString('hex'), blocks);
  assert.equal(Buffer.from(await client.read(20)).toString('hex'), `${magic}000000070000000100000000`);
});

test('refuses bad options by their own reply and goes on', LIMIT, async () => {
  await using server = serverWith();
  const client = new RawClient(server);
  await client.greet();
  const query = new PayloadWriter().string('vda').u32(1).string('base:allocation').end();
  const name = (text: string): Uint8Array => new PayloadWriter().string(text).u16(0).end();
  assert.equal((await client.option(77)).type, REPLY.unsupported);
  assert.equal((await client.option(OPTION.startTls)).type, REPLY.unsupported);
  assert.equal((await client.option(OPTION.list, new Uint8Array(1))).type, REPLY.invalid);
  assert.equal((await client.option(OPTION.go, Uint8Array.of(0, 0, 0, 9, 1))).type, REPLY.invalid);
  assert.equal((await client.option(OPTION.go, name('vdz'))).type, REPLY.unknown);
  assert.equal((await client.option(OPTION.go, name('\xff'.repeat(5000)))).type, REPLY.invalid);
  assert.equal((await client.option(OPTION.go, new Uint8Array(200_000))).type, REPLY.tooBig);
  assert.equal((await client.option(OPTION.setMetaContext, query)).type, REPLY.invalid);
  assert.equal((await client.option(OPTION.structuredReply)).type, REPLY.ack);
  assert.equal((await client.option(OPTION.setMetaContext, query)).type, REPLY.metaContext);
  assert.equal((await client.optionReply()).type, REPLY.ack);
  assert.equal((await client.option(OPTION.go, name('vda'))).type, REPLY.info);
});

test(
  'a client that only knows EXPORT_NAME gets the size, its padding and simple replies',
  LIMIT,
  async () => {
    await using server = serverWith();
    const client = new RawClient(server);
    await client.greet(1);
    client.write(encodeOption(OPTION.exportName, Buffer.from('vda')));
    const reply = new PayloadReader(await client.read(8 + 2 + 124));
    assert.equal(reply.u64(), DISK_BYTES);
    client.request(COMMAND.read, { offset: 524_288, length: 4, cookie: 5 });
    assert.deepEqual(
      Buffer.from(await client.read(20)).toString('hex'),
      '6744669800000000000000000000000502020202',
    );
    client.request(COMMAND.blockStatus, { length: 4096 });
    assert.equal(await client.errno(), ERRNO.EINVAL);
  },
);

test('refuses to write, passes over the payload and goes on', LIMIT, async () => {
  await using server = serverWith();
  const client = await entered(server);
  client.request(COMMAND.write, { length: 100_000 });
  client.write(new Uint8Array(100_000).fill(0x25));
  assert.equal(await client.errno(), ERRNO.EPERM);
  for (const command of [COMMAND.trim, COMMAND.writeZeroes]) {
    client.request(command, { length: 4096 });
    assert.equal(await client.errno(), ERRNO.EPERM);
  }
  for (const command of [COMMAND.flush, COMMAND.cache]) {
    client.request(command, { length: command === COMMAND.cache ? 4096 : 0 });
    assert.equal(await client.errno(), 0);
  }
  client.request(COMMAND.read, { length: 4 });
  assert.equal((await client.chunk()).type, CHUNK.offsetData);
});

test('refuses requests beyond its limits by an error and goes on', LIMIT, async () => {
  await using server = serverWith();
  const client = await entered(server);
  const refusals: [number, Parameters<RawClient['request']>[1], number][] = [
    [COMMAND.read, { offset: DISK_BYTES - 1, length: 2 }, ERRNO.EINVAL],
    [COMMAND.read, { offset: 2 ** 63, length: 1 }, ERRNO.EINVAL],
    [COMMAND.read, { length: 0 }, ERRNO.EINVAL],
    [COMMAND.read, { length: 2 ** 32 - 1 }, ERRNO.EINVAL],
    [COMMAND.read, { length: 2 ** 32 - 1, flags: COMMAND_FLAG.df }, ERRNO.EOVERFLOW],
    [COMMAND.read, { length: 4096, flags: COMMAND_FLAG.fua }, ERRNO.EINVAL],
    [COMMAND.blockStatus, { length: 0 }, ERRNO.EINVAL],
    [COMMAND.blockStatus, { length: DISK_BYTES + 1 }, ERRNO.EINVAL],
    [COMMAND.blockStatus, { length: 512, flags: 0x8000 }, ERRNO.EINVAL],
    [COMMAND.cache, { offset: DISK_BYTES, length: 1 }, ERRNO.EINVAL],
    [COMMAND.resize, { length: 1 }, ERRNO.EINVAL],
    [99, {}, ERRNO.EINVAL],
  ];
  for (const [command, range, errno] of refusals) {
    client.request(command, range);
    assert.equal(await client.errno(), errno, `${command} ${JSON.stringify(range)}`);
  }
});

test('sends zeroes as holes, and none when the client wants one piece', LIMIT, async () => {
  await using server = serverWith();
  const client = await entered(server);
  client.request(COMMAND.read, { length: 262_144, cookie: 9 });
  const data = await client.chunk();
  assert.deepEqual(
    [data.type, data.isLast, data.cookie, data.payload.length],
    [CHUNK.offsetData, false, 9, 65_544],
  );
  const hole = await client.chunk();
  assert.deepEqual([hole.type, hole.isLast, hole.payload.length], [CHUNK.offsetHole, true, 12]);
  assert.equal(view(hole.payload).getUint32(4), 65_536);
  assert.equal(view(hole.payload).getUint32(8), 196_608);
  client.request(COMMAND.read, { length: 262_144, flags: COMMAND_FLAG.df });
  const whole = await client.chunk();
  assert.deepEqual([whole.type, whole.isLast, whole.payload.length], [CHUNK.offsetData, true, 262_152]);
});

test('gives all extents, or one that stays inside when the client wants one', LIMIT, async () => {
  await using server = serverWith();
  const client = await entered(server);
  const runs = async (): Promise<number[]> => {
    const { payload } = await client.chunk();
    return Array.from({ length: (payload.length - 4) / 4 }, (_, index) =>
      view(payload).getUint32(4 + index * 4),
    );
  };
  client.request(COMMAND.blockStatus, { length: DISK_BYTES });
  assert.deepEqual(await runs(), [65_536, 0, 458_752, 3, 4096, 0, 520_192, 3]);
  client.request(COMMAND.blockStatus, {
    offset: 512,
    length: DISK_BYTES - 512,
    flags: COMMAND_FLAG.requestOne,
  });
  assert.deepEqual(await runs(), [65_024, 0]);
  client.request(COMMAND.blockStatus, { offset: 65_536, length: 512, flags: COMMAND_FLAG.requestOne });
  assert.deepEqual(await runs(), [512, 3]);
});

test(
  'stops reading from a client that takes no replies, and cuts it off when the export goes',
  LIMIT,
  async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const disk = new CountedDisk(new MemoryDisk(content()));
    await using server = serverWith(disk);
    const client = await entered(server);
    client.stream.pause();
    for (let count = 0; count < 5000; count++)
      client.request(COMMAND.read, { length: 512, offset: 0, cookie: count });
    for (let turn = 0; turn < 500; turn++) await new Promise(setImmediate);
    assert.ok(disk.readCount >= 64, `${disk.readCount} reads`);
    assert.ok(disk.readCount < 1000, `${disk.readCount} reads although nobody takes the replies`);
    const before = disk.readCount;
    for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate);
    assert.equal(disk.readCount, before);
    const removed = server.removeExport('vda');
    t.mock.timers.tick(5000);
    await removed;
    await client.served;
  },
);

test('a client that says nothing is hung up on after a while', LIMIT, async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  await using server = serverWith();
  const client = new RawClient(server);
  await client.read(18);
  t.mock.timers.tick(10_000);
  await client.served;
  await assert.rejects(client.read(1));
});

/** A whole conversation of a client, as bytes. */
function conversation(): Uint8Array {
  const query = new PayloadWriter().string('vda').u32(1).string('base:allocation').end();
  const out = new PayloadWriter()
    .u32(3)
    .bytes(encodeOption(OPTION.list, new Uint8Array(0)))
    .bytes(encodeOption(OPTION.structuredReply, new Uint8Array(0)))
    .bytes(encodeOption(OPTION.setMetaContext, query))
    .bytes(encodeOption(OPTION.go, new PayloadWriter().string('vda').u16(1).u16(3).end()));
  for (const command of [COMMAND.read, COMMAND.blockStatus, COMMAND.write, COMMAND.flush, COMMAND.read]) {
    const request = new Uint8Array(28);
    const data = view(request);
    data.setUint32(0, REQUEST_MAGIC);
    data.setUint16(6, command);
    setUint64(data, 16, 4096);
    data.setUint32(24, command === COMMAND.write ? 64 : 65_536);
    out.bytes(request);
    if (command === COMMAND.write) out.bytes(new Uint8Array(64));
  }
  return out.end();
}

/** Sends bytes, ends the stream, and waits until the server is done with it. */
async function play(server: NbdServer, bytes: Uint8Array): Promise<void> {
  const client = new RawClient(server);
  client.write(bytes);
  client.stream.end();
  client.stream.resume();
  await client.served;
}

test(
  'every prefix and every flipped bit of a conversation ends, and the server serves on',
  LIMIT,
  async () => {
    await using server = serverWith();
    const whole = conversation();
    for (let length = 0; length < whole.length; length++) await play(server, whole.subarray(0, length));
    for (let bit = 0; bit < whole.length * 8; bit++) {
      const bytes = whole.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      await play(server, bytes);
    }
    await entered(server);
    assert.equal(server.connectionCount, 1);
  },
);

test('random changes of a conversation end, and the server serves on', LIMIT, async () => {
  const seed = Date.now() % 2 ** 32;
  const random = new SeededRandom(seed);
  await using server = serverWith();
  for (let round = 0; round < 1000; round++) {
    const bytes = conversation();
    for (let change = integerBelow(random, 6); change >= 0; change--) {
      bytes[integerBelow(random, bytes.length)] = integerBelow(random, 256);
    }
    await play(server, bytes).catch((error: unknown) => {
      throw new Error(`seed ${seed}, round ${round}`, { cause: error });
    });
  }
  await entered(server);
});
