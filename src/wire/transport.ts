/**
 * A two-way byte stream with back-pressure, as a session sees it: a TLS connection, or the simulation's link.
 */

/** Who is on the other end, proven by its certificate: `antipode://<site>/<role>/<id>`. */
export type PeerIdentity = { siteId: string; role: 'agent' | 'replication-server' | 'manager'; id: string };

export interface Transport extends AsyncDisposable {
  readonly peer: PeerIdentity;
  /**
   * Sends `parts` in order as one piece. Resolves when the transport can take more, which is how a slow peer holds
   * the sender back. Rejects with Failure `unreachable` once the connection is gone.
   */
  send(parts: readonly Uint8Array[]): Promise<void>;
  /** Bytes as they arrive, in pieces of any length; undefined after an orderly end. Rejects with `unreachable`. */
  receive(): Promise<Uint8Array | undefined>;
}
