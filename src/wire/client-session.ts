/**
 * The agent's end of a session about one replica (docs/wire-protocol.md, section 5).
 *
 * Requests are answered one at a time; segments flow as the server's credit allows. Whatever goes wrong ends the
 * session, and every later call rejects with the Failure that ended it. It has the shape of the replication engine's
 * `ReplicaSession`. Pure.
 */
import assert from 'node:assert/strict';
import { DIGEST_BYTES } from '#/disk/digest.ts';
import { Failure } from '#/lib/failure.ts';
import { ClientConnection, type ClientSessionOptions } from './client-connection.ts';
import { CreditWindow } from './credit.ts';
import { ATTACHMENT_PIECE_BYTES, DIGESTS_MAX, PROTOCOL_MAX, PROTOCOL_MIN } from './limits.ts';
import type { Attachment, Begin, Commit, Message, Open, Opened, PointRef } from './messages.ts';
import { type EncodedSegment } from './segment.ts';
import type { Transport } from './transport.ts';

export type OpenRequest = Omit<Open, 'kind' | 'protocol'>;

/**
 * Opens a session over `transport`, which belongs to it from now on, also when opening fails.
 * Throws what the server refuses with, and unreachable, timeout, protocol_corrupt, protocol_unsupported.
 */
export function openSession(
  transport: Transport,
  open: OpenRequest,
  options: ClientSessionOptions,
): Promise<ClientSession> {
  return openOver(new ClientConnection(transport, options), open, options);
}

export type OpenOptions = {
  signal?: AbortSignal;
  /** Takes over the connection when the session is disposed while nothing is under way, to open another one. */
  rest?: (connection: ClientConnection) => void;
};

/** Opens a session over a connection that has none; it ends when opening fails. */
export async function openOver(
  connection: ClientConnection,
  open: OpenRequest,
  options: OpenOptions,
): Promise<ClientSession> {
  const wireBytesBefore = connection.wireBytes;
  try {
    const request: Open = { kind: 'open', protocol: PROTOCOL_MAX, ...open };
    const opened = await connection.request<'opened'>(request, options.signal);
    if (opened.protocol < PROTOCOL_MIN || opened.protocol > PROTOCOL_MAX) {
      throw new Failure(
        'protocol_unsupported',
        `open session: the server chose protocol ${opened.protocol}, here are ${PROTOCOL_MIN} to ${PROTOCOL_MAX}`,
      );
    }
    return new ClientSession(connection, { opened, wireBytesBefore, rest: options.rest });
  } catch (error) {
    await connection.end(error);
    throw connection.reason ?? error;
  }
}

const NO_BYTES = new Uint8Array(0);

type Point = { ref: PointRef; nextIndex: number; window: CreditWindow };

export class ClientSession implements AsyncDisposable {
  readonly opened: Opened;
  readonly #own: ClientConnection;
  readonly #rest: OpenOptions['rest'];
  readonly #wireBytesBefore: number;
  #point: Point | undefined;
  #hasHandedOver = false;

  /** Use `openSession`. */
  constructor(
    connection: ClientConnection,
    session: { opened: Opened; wireBytesBefore: number; rest: OpenOptions['rest'] },
  ) {
    this.opened = session.opened;
    this.#own = connection;
    this.#rest = session.rest;
    this.#wireBytesBefore = session.wireBytesBefore;
  }

  /** While the session lasts: afterwards it may be another one's. */
  get #connection(): ClientConnection {
    assert(!this.#hasHandedOver, 'a session is used after its end');
    return this.#own;
  }

  /** `count` nodes of a disk's digest tree, 16 bytes each; asked for in bounded pieces. */
  async digests(
    disk: number,
    level: number,
    first: number,
    ...[count, signal]: [count: number, signal?: AbortSignal]
  ): Promise<Uint8Array> {
    const nodes = new Uint8Array(count * DIGEST_BYTES);
    for (let at = 0; at < count; at += DIGESTS_MAX) {
      const piece = { disk, level, first: first + at, count: Math.min(DIGESTS_MAX, count - at) };
      const reply = await this.#connection.request<'digests'>({ kind: 'digests_get', ...piece }, signal);
      const isWanted = reply.disk === disk && reply.level === level && reply.first === piece.first;
      this.#check(isWanted && reply.digests.length === piece.count * DIGEST_BYTES, 'digests');
      nodes.set(reply.digests, at * DIGEST_BYTES);
    }
    return nodes;
  }

  async begin(begin: Omit<Begin, 'kind'>): Promise<number> {
    const window = new CreditWindow(this.opened.window);
    this.#connection.credited = (credit) => window.credit(credit);
    const { segmentCount } = await this.#connection.request<'begun'>({ kind: 'begin', ...begin });
    const ref = { sequence: begin.sequence, stamp: begin.stamp };
    this.#point = { ref, nextIndex: segmentCount, window };
    return segmentCount;
  }

  /** Resolves when the next may be sent and the bytes are not needed any more. */
  async segment(index: number, parts: EncodedSegment, signal?: AbortSignal): Promise<void> {
    const point = this.#pointNow();
    const { head: segment, payload } =
      parts instanceof Uint8Array ? { head: parts, payload: NO_BYTES } : parts;
    assert.equal(index, point.nextIndex, 'segments are sent in order');
    const bytes = segment.length + payload.length;
    if (signal?.aborted === true || !point.window.tryTake(bytes)) {
      await this.#connection.waiting((both) => point.window.take(bytes, both), signal);
    }
    point.nextIndex++;
    await this.#connection.send({ kind: 'segment', index, segment, payload });
  }

  async offerAttachments(attachments: readonly Attachment[]): Promise<string[]> {
    const offer: Message = { kind: 'attachments_offer', attachments: [...attachments] };
    const { sha256 } = await this.#connection.request<'attachments_wanted'>(offer);
    const offered = new Set(attachments.map((attachment) => attachment.sha256));
    this.#check(
      sha256.every((each) => offered.has(each)) && new Set(sha256).size === sha256.length,
      'wanted',
    );
    return sha256;
  }

  async attachment(sha256: string, bytes: Uint8Array): Promise<void> {
    let offset = 0;
    do {
      const piece = bytes.subarray(offset, offset + ATTACHMENT_PIECE_BYTES);
      const message: Message = { kind: 'attachment', sha256, offset, bytes: piece };
      const taken = await this.#connection.request<'attachment_taken'>(message);
      offset += piece.length;
      this.#check(taken.sha256 === sha256 && taken.bytes === offset, 'attachment_taken');
    } while (offset < bytes.length);
  }

  async commit(commit: Omit<Commit, 'kind'>): Promise<PointRef> {
    const point = this.#pointNow();
    const { sequence, stamp } = await this.#connection.request<'acknowledged'>({ kind: 'commit', ...commit });
    this.#point = undefined;
    this.#check(sequence === point.ref.sequence && stamp === point.ref.stamp, 'acknowledged');
    return { sequence, stamp };
  }

  async abort(stamp: string): Promise<void> {
    await this.#connection.request<'aborted'>({ kind: 'abort', stamp });
    this.#point = undefined;
  }

  /** Bytes put on the wire by this session so far, both directions, without TLS. */
  wireBytes(): number {
    return this.#connection.wireBytes - this.#wireBytesBefore;
  }

  /** Aborts, with the Failure as its reason, when the session has ended for whatever cause. */
  get ended(): AbortSignal {
    return this.#connection.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hasHandedOver) return;
    if (this.#rest === undefined || !this.#own.isIdle) {
      await this.#own.end(undefined);
      return;
    }
    this.#hasHandedOver = true;
    this.#rest(this.#own);
  }

  #pointNow(): Point {
    this.#connection.throwIfEnded();
    assert(this.#point !== undefined, 'no point was begun');
    return this.#point;
  }

  /** An answer that decodes and still cannot be: the session is worth nothing any more. */
  #check(isRight: boolean, what: string): void {
    if (isRight) return;
    const failure = new Failure('protocol_corrupt', `receive ${what}: not an answer to what was asked`);
    void this.#connection.end(failure);
    throw failure;
  }
}
