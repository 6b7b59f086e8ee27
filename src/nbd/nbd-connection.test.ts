/** The client's connection against a server that the test writes byte by byte: aborts, stalls, lies, hang-ups. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { ByteQueue } from './byte-queue.ts';
import { NbdDisk } from './nbd-client.ts';
import { encodeOptionReply, PayloadWriter, view } from './option-codec.ts';
import { OPTION, OPTION_MAGIC, REPLY, SERVER_MAGIC } from './protocol.ts';
import { TemporaryDirectory } from './real-servers.ts';
import { encodeDataHeader, encodeSimpleReply } from './request-codec.ts';

const LIMIT = { timeout: 60_000 };
const DISK_BYTES = 16 * 1024 * 1024;
const READ_BYTES = 512 * 1024;

/** Accepts connections; each is negotiated up to transmission and then the test's. */
class Scripted implements AsyncDisposable {
  readonly directory: TemporaryDirectory;
  readonly #listener = net.createServer();
  readonly #sockets = new Set<net.Socket>();

  private constructor(directory: TemporaryDirectory) {
    this.directory = directory;
  }

  static async start(): Promise<Scripted> {
    const scripted = new Scripted(await TemporaryDirectory.create());
    scripted.#listener.on('connection', (socket) => {
      scripted.#sockets.add(socket);
      socket.on('error', () => undefined);
    });
    scripted.#listener.listen(scripted.address.path);
    await once(scripted.#listener, 'listening');
    return scripted;
  }

  get address(): { kind: 'unix'; path: string } {
    return { kind: 'unix', path: this.directory.file('socket') };
  }

  async accept(): Promise<{ socket: net.Socket; queue: ByteQueue }> {
    const [socket] = (await once(this.#listener, 'connection')) as [net.Socket];
    const queue = new ByteQueue(1024 * 1024);
    socket.on('data', (bytes: Buffer) => queue.push(bytes));
    return { socket, queue };
  }

  /** A disk of the client and its connection here, in transmission. */
  async enter(): Promise<{ disk: NbdDisk; socket: net.Socket; queue: ByteQueue }> {
    const accepted = this.accept();
    const connecting = NbdDisk.connect({ address: this.address, exportName: '' });
    const { socket, queue } = await accepted;
    socket.write(greeting());
    await queue.read(4);
    for (const option of [OPTION.structuredReply, OPTION.setMetaContext, OPTION.go]) {
      const header = view(await queue.read(16));
      assert.equal(header.getUint32(8), option);
      await queue.read(header.getUint32(12));
      const size = new PayloadWriter().u16(0).u64(DISK_BYTES).u16(3).end();
      if (option === OPTION.go) socket.write(encodeOptionReply(option, REPLY.info, size));
      socket.write(encodeOptionReply(option, REPLY.ack, new Uint8Array(0)));
    }
    return { disk: await connecting, socket, queue };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    const closed = once(this.#listener, 'close');
    this.#listener.close();
    await closed;
    await this.directory[Symbol.asyncDispose]();
  }
}

function greeting(): Uint8Array {
  const hello = new PayloadWriter().u32(SERVER_MAGIC[0]).u32(SERVER_MAGIC[1]);
  return hello.u32(OPTION_MAGIC[0]).u32(OPTION_MAGIC[1]).u16(3).end();
}

/** Waits until the client has received all that was written: it then holds what it was given. */
async function untilTaken(disk: NbdDisk, isTaken: () => boolean): Promise<void> {
  assert.equal(disk.bytes, DISK_BYTES);
  while (!isTaken()) await new Promise(setImmediate);
}

test(
  'an aborted read whose bytes are arriving settles with the next ones, and its memory is left alone',
  LIMIT,
  async () => {
    await using scripted = await Scripted.start();
    const { disk, socket, queue } = await scripted.enter();
    await using _ = disk;
    const controller = new AbortController();
    const target = new Uint8Array(READ_BYTES);
    const read = disk.read(0, target, controller.signal);
    const cookie = (await queue.read(28)).slice(8, 16);
    const half = READ_BYTES / 2;
    socket.write(encodeDataHeader(cookie, { offset: 0, length: READ_BYTES, isLast: true }));
    socket.write(new Uint8Array(half).fill(1));
    await untilTaken(disk, () => target[half - 1] === 1);
    const reason = new Error('enough');
    controller.abort(reason);
    let isSettled = false;
    const refused = assert.rejects(read, reason).then(() => (isSettled = true));
    for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate);
    assert.equal(isSettled, false);
    socket.write(new Uint8Array(1).fill(2));
    await refused;
    target.fill(9);
    socket.write(new Uint8Array(half - 1).fill(2));
    const next = new Uint8Array(READ_BYTES);
    const reading = disk.read(0, next);
    const nextCookie = (await queue.read(28)).slice(8, 16);
    socket.write(encodeDataHeader(nextCookie, { offset: 0, length: READ_BYTES, isLast: true }));
    socket.write(new Uint8Array(READ_BYTES).fill(3));
    await reading;
    assert.ok(next.every((byte) => byte === 3));
    assert.ok(target.every((byte) => byte === 9));
  },
);

test('an aborted read whose bytes stop arriving gives the connection up', LIMIT, async (t) => {
  await using scripted = await Scripted.start();
  const { disk, socket, queue } = await scripted.enter();
  await using _ = disk;
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const controller = new AbortController();
  const target = new Uint8Array(READ_BYTES);
  const read = disk.read(0, target, controller.signal);
  const other = disk.read(READ_BYTES, new Uint8Array(512));
  const cookie = (await queue.read(28)).slice(8, 16);
  socket.write(encodeDataHeader(cookie, { offset: 0, length: READ_BYTES, isLast: true }));
  socket.write(new Uint8Array(READ_BYTES / 2).fill(1));
  await untilTaken(disk, () => target[READ_BYTES / 2 - 1] === 1);
  const reason = new Error('enough');
  controller.abort(reason);
  const both = Promise.all([
    assert.rejects(read, reason),
    assert.rejects(other, (error) => hasCode(error, 'unreachable')),
  ]);
  t.mock.timers.tick(1000);
  await both;
});

test('a server that breaks the protocol fails every read with protocol_corrupt', LIMIT, async () => {
  await using scripted = await Scripted.start();
  const { disk, socket, queue } = await scripted.enter();
  await using _ = disk;
  const reads = [0, 1, 2].map((block) => disk.read(block * 4096, new Uint8Array(4096)));
  await queue.read(28 * 3);
  socket.write(encodeSimpleReply(new Uint8Array(8).fill(0xff), 0));
  for (const result of await Promise.allSettled(reads)) {
    assert.ok(result.status === 'rejected' && hasCode(result.reason, 'protocol_corrupt'));
  }
});

test('a server that hangs up in the middle of a read fails it with unreachable', LIMIT, async () => {
  await using scripted = await Scripted.start();
  const { disk, socket, queue } = await scripted.enter();
  await using _ = disk;
  const read = disk.read(0, new Uint8Array(READ_BYTES));
  const cookie = (await queue.read(28)).slice(8, 16);
  socket.write(encodeDataHeader(cookie, { offset: 0, length: READ_BYTES, isLast: true }));
  socket.end(new Uint8Array(1000));
  await assert.rejects(read, (error) => hasCode(error, 'unreachable'));
});

test("a server that never greets runs into the time limit, or into the caller's signal", LIMIT, async (t) => {
  await using scripted = await Scripted.start();
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const accepted = scripted.accept();
  const connecting = NbdDisk.connect({ address: scripted.address, exportName: '' });
  const refused = assert.rejects(connecting, (error) => hasCode(error, 'timeout'));
  await accepted;
  t.mock.timers.tick(10_000);
  await refused;
  const controller = new AbortController();
  const second = NbdDisk.connect({ address: scripted.address, exportName: '' }, controller.signal);
  const reason = new Error('enough');
  controller.abort(reason);
  await assert.rejects(second, reason);
});

test('random bytes in the place of replies end every read with a Failure', LIMIT, async () => {
  const seed = Date.now() % 2 ** 32;
  const random = new SeededRandom(seed);
  await using scripted = await Scripted.start();
  for (let round = 0; round < 100; round++) {
    const { disk, socket, queue } = await scripted.enter();
    const reads = Promise.allSettled([disk.read(0, new Uint8Array(READ_BYTES)), disk.extents(0, 4096)]);
    const cookie = (await queue.read(28)).slice(8, 16);
    const header = encodeDataHeader(cookie, { offset: 0, length: READ_BYTES, isLast: true });
    header[integerBelow(random, header.length)]! ^= 1 << integerBelow(random, 8);
    socket.end(Buffer.concat([header, random.bytes(integerBelow(random, 5000))]));
    const [read] = await reads;
    const isNamed = hasCode((read as PromiseRejectedResult).reason, 'protocol_corrupt') || hasCode((read as PromiseRejectedResult).reason, 'unreachable'); // prettier-ignore
    assert.ok(read.status === 'rejected' && isNamed, `seed ${seed}, round ${round}`);
    await disk[Symbol.asyncDispose]();
  }
});
