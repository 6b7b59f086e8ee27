/**
 * A two-way byte stream with back-pressure, as a session sees it: a TLS connection, or the simulation's link.
 */
import type { PeerIdentity } from '#/lib/peer-identity.ts';

/** Who is on the other end, proven by its certificate: `antipode://<site>/<role>/<id>`. */
export type { PeerIdentity };

/** Memory that the receiver has ready for the bytes that come next. */
export type Room = {
  bytes: Uint8Array;
  /** So many more bytes are in it. */
  arrived: (count: number) => void;
};

export interface Transport extends AsyncDisposable {
  readonly peer: PeerIdentity;
  /**
   * Sends `parts` in order as one piece; pieces go out in the order of the calls. Resolves when the transport can
   * take more, which is how a slow peer holds the sender back, and when it needs the bytes no more: until then the
   * caller leaves them alone. Rejects with Failure `unreachable` once the connection is gone; then the bytes may be
   * needed until the transport is disposed.
   */
  send(parts: readonly Uint8Array[]): Promise<void>;
  /**
   * Bytes as they arrive, in pieces of any length; undefined after an orderly end. One call at a time; a piece is the
   * caller's until the next call. Rejects with `unreachable`.
   *
   * With `room` a transport may put what comes next straight there; it then resolves with `room.bytes` once they are
   * full, and has told `arrived` of every part of them. Nobody else touches them before it has settled.
   */
  receive(room?: Room): Promise<Uint8Array | undefined>;
  /** Ends the stream: what was sent before still leaves, for a bounded time; a pending `receive` settles. */
  [Symbol.asyncDispose](): Promise<void>;
}
