/**
 * Packets of libvirt's RPC (`virnetprotocol.x`): a length word, a header, a payload.
 *
 *   | offset | bytes | field                                                        |
 *   | ------ | ----- | ------------------------------------------------------------ |
 *   | 0      | 4     | length of the packet, this word included                     |
 *   | 4      | 4     | program                                                      |
 *   | 8      | 4     | version of the program                                       |
 *   | 12     | 4     | procedure                                                    |
 *   | 16     | 4     | type: call, reply, message (event, keepalive), stream        |
 *   | 20     | 4     | serial: of the call that this belongs to; none in a message  |
 *   | 24     | 4     | status: ok, error, continue                                  |
 *   | 28     | ...   | payload, XDR, or raw bytes in a stream                       |
 *
 * Invariant: a packet's length is checked before its bytes are waited for, and memory is only what arrived.
 */
import { Failure } from '#/lib/failure.ts';
import { PACKET_BYTES_MAX } from './limits.ts';

const LENGTH_BYTES = 4;
const HEADER_BYTES = 24;

export const PacketType = { call: 0, reply: 1, message: 2, stream: 3 } as const;
export const PacketStatus = { ok: 0, error: 1, continue: 2 } as const;

export type PacketTypeNumber = (typeof PacketType)[keyof typeof PacketType];
export type PacketStatusNumber = (typeof PacketStatus)[keyof typeof PacketStatus];

export type Packet = {
  program: number;
  version: number;
  procedure: number;
  type: PacketTypeNumber;
  serial: number;
  status: PacketStatusNumber;
  payload: Uint8Array;
};

/** One packet as bytes. Throws `usage_invalid` for a payload that no peer would take. */
export function encodePacket(packet: Packet): Uint8Array {
  const length = LENGTH_BYTES + HEADER_BYTES + packet.payload.length;
  if (length > PACKET_BYTES_MAX) throw new Failure('usage_invalid', `encode a packet of ${length} bytes`);
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, length);
  view.setUint32(4, packet.program);
  view.setUint32(8, packet.version);
  view.setInt32(12, packet.procedure);
  view.setUint32(16, packet.type);
  view.setUint32(20, packet.serial);
  view.setUint32(24, packet.status);
  bytes.set(packet.payload, LENGTH_BYTES + HEADER_BYTES);
  return bytes;
}

/** Cuts a byte stream into packets. After a Failure the stream has lost its frame: the connection must end. */
export class PacketDecoder {
  #chunks: Uint8Array[] = [];
  #buffered = 0;
  #wanted = LENGTH_BYTES;
  #isLengthKnown = false;

  /** Takes bytes as they came and returns the packets they complete. Throws `protocol_corrupt`. */
  push(chunk: Uint8Array): Packet[] {
    if (chunk.length > 0) this.#chunks.push(chunk);
    this.#buffered += chunk.length;
    const packets: Packet[] = [];
    while (this.#buffered >= this.#wanted) {
      const bytes = this.#gather();
      if (!this.#isLengthKnown) {
        this.#wanted = checkedLength(bytes);
        this.#isLengthKnown = true;
        continue;
      }
      packets.push(decodePacket(bytes.subarray(0, this.#wanted)));
      this.#chunks = bytes.length > this.#wanted ? [bytes.subarray(this.#wanted)] : [];
      this.#buffered -= this.#wanted;
      this.#wanted = LENGTH_BYTES;
      this.#isLengthKnown = false;
    }
    return packets;
  }

  /** True between packets: the only place where a stream may end cleanly. */
  get isEmpty(): boolean {
    return this.#buffered === 0;
  }

  /** Everything that is buffered as one piece; all of it has arrived, so nothing is allocated on a peer's word. */
  #gather(): Uint8Array {
    const [first, ...rest] = this.#chunks;
    if (first !== undefined && rest.length === 0) return first;
    const bytes = Buffer.concat(this.#chunks, this.#buffered);
    this.#chunks = [bytes];
    return bytes;
  }
}

function checkedLength(bytes: Uint8Array): number {
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  if (length < LENGTH_BYTES + HEADER_BYTES || length > LENGTH_BYTES + PACKET_BYTES_MAX) {
    throw new Failure('protocol_corrupt', `read a packet of libvirt: its length is ${length}`);
  }
  return length;
}

function decodePacket(bytes: Uint8Array): Packet {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const type = view.getUint32(16);
  const status = view.getUint32(24);
  if (!isType(type)) throw new Failure('protocol_corrupt', `read a packet of libvirt: its type is ${type}`);
  if (!isStatus(status))
    throw new Failure('protocol_corrupt', `read a packet of libvirt: its status is ${status}`);
  return {
    program: view.getUint32(4),
    version: view.getUint32(8),
    procedure: view.getInt32(12),
    type,
    serial: view.getUint32(20),
    status,
    payload: bytes.subarray(LENGTH_BYTES + HEADER_BYTES),
  };
}

function isType(value: number): value is PacketTypeNumber {
  return value <= PacketType.stream;
}

function isStatus(value: number): value is PacketStatusNumber {
  return value <= PacketStatus.continue;
}
