/** Packets against bytes that a libvirt 9.0 daemon and client exchanged, in every way that a socket may cut them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { fromHex } from './fake-daemon.ts';
import { encodePacket, PacketDecoder, PacketStatus, PacketType } from './packet.ts';

const CALL = '0000001c 20008086 00000001 0000003b 00000000 00000003 00000000';
const REPLY = '00000024 20008086 00000001 0000003b 00000001 00000003 00000000 00000002 766d0000';

test('a call is written as libvirt writes it', () => {
  const bytes = encodePacket({
    program: 0x20008086,
    version: 1,
    procedure: 59,
    type: PacketType.call,
    serial: 3,
    status: PacketStatus.ok,
    payload: new Uint8Array(0),
  });
  assert.deepEqual(bytes, fromHex(CALL));
});

test('packets are found in a stream however it is cut', () => {
  const stream = fromHex(REPLY + REPLY + CALL.replace('00000000 00000003', '00000002 00000000'));
  for (let size = 1; size <= stream.length; size++) {
    const decoder = new PacketDecoder();
    const packets = [];
    for (let at = 0; at < stream.length; at += size)
      packets.push(...decoder.push(stream.subarray(at, at + size)));
    assert.deepEqual(
      packets.map((p) => [p.procedure, p.type, p.serial, Buffer.from(p.payload).toString('hex')]),
      [
        [59, PacketType.reply, 3, '00000002766d0000'],
        [59, PacketType.reply, 3, '00000002766d0000'],
        [59, PacketType.message, 0, ''],
      ],
      `pieces of ${size} bytes`,
    );
    assert(decoder.isEmpty);
  }
});

test('no prefix of a packet is a packet', () => {
  const bytes = fromHex(REPLY);
  for (let length = 0; length < bytes.length; length++) {
    const decoder = new PacketDecoder();
    assert.deepEqual(decoder.push(bytes.subarray(0, length)), []);
    assert.equal(decoder.isEmpty, length === 0);
  }
});

test('a length that no packet has is refused as soon as it is known', () => {
  for (const length of ['00000000', '0000001b', '02000005', '80000000', 'ffffffff']) {
    assert.throws(
      () => new PacketDecoder().push(fromHex(length)),
      (error) => hasCode(error, 'protocol_corrupt'),
      length,
    );
  }
});

test('a type or status that does not exist is refused', () => {
  for (const at of [19, 27]) {
    const bytes = fromHex(REPLY);
    bytes[at] = 9;
    assert.throws(
      () => new PacketDecoder().push(bytes),
      (error) => hasCode(error, 'protocol_corrupt'),
    );
  }
});

test('the longest packet allowed costs no memory until it comes', () => {
  const before = process.memoryUsage().arrayBuffers;
  const decoders = Array.from({ length: 64 }, () => new PacketDecoder());
  for (const decoder of decoders) assert.deepEqual(decoder.push(fromHex('02000004')), []);
  assert(process.memoryUsage().arrayBuffers - before < 1_048_576, 'memory was taken on the word of the peer');
});
