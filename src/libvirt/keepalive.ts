/**
 * A sign of life from a daemon that is silent (`virkeepaliveprotocol.x`): ping after an interval without any packet,
 * and call it gone after a number of intervals without an answer.
 */
import { Failure } from '#/lib/failure.ts';
import type { Clock } from '#/lib/clock.ts';
import { PacketStatus, PacketType } from './packet.ts';
import type { Packet } from './packet.ts';
import { KEEPALIVE_PROGRAM, KeepaliveProcedure, PROGRAM_VERSION } from './procedures.ts';

export type KeepaliveOptions = { intervalMs: number; count: number };

export type KeepaliveWatch = KeepaliveOptions & {
  clock: Clock;
  /** Ends the watch. */
  signal: AbortSignal;
  /** Packets received so far: a change is a sign of life. */
  received: () => number;
  ping: () => void;
};

/** Resolves when the signal aborts, or with the Failure `unreachable` when the daemon gives no sign of life. */
export async function watchSilence(watch: KeepaliveWatch): Promise<Failure | undefined> {
  let seen = watch.received();
  let unanswered = 0;
  for (;;) {
    try {
      await watch.clock.sleep(watch.intervalMs, watch.signal);
    } catch {
      return undefined;
    }
    const received = watch.received();
    if (received !== seen) {
      seen = received;
      unanswered = 0;
      continue;
    }
    if (unanswered >= watch.count) {
      const silenceMs = watch.intervalMs * (unanswered + 1);
      return new Failure('unreachable', `libvirt's daemon gave no sign of life for ${silenceMs} ms`);
    }
    unanswered++;
    watch.ping();
  }
}

export function keepalivePacket(procedure: number): Packet {
  return {
    program: KEEPALIVE_PROGRAM,
    version: PROGRAM_VERSION,
    procedure,
    type: PacketType.message,
    serial: 0,
    status: PacketStatus.ok,
    payload: new Uint8Array(0),
  };
}

/** What to send back to a keepalive packet: a pong to a ping, nothing to a pong. Throws `protocol_corrupt`. */
export function keepaliveAnswer(packet: Packet): Packet | undefined {
  if (packet.procedure === KeepaliveProcedure.ping) return keepalivePacket(KeepaliveProcedure.pong);
  if (packet.procedure === KeepaliveProcedure.pong) return undefined;
  throw new Failure(
    'protocol_corrupt',
    `read a keepalive packet of libvirt: its procedure is ${packet.procedure}`,
  );
}
