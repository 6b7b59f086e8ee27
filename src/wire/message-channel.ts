/**
 * Messages over a transport: frames, sequence numbers, the table of states (docs/wire-protocol.md, sections 2 and 5).
 *
 * Invariant: what `receive` returns is whole, checked, in order, and allowed in the session's state. Pure.
 */
import assert from 'node:assert/strict';
import { Failure } from '#/lib/failure.ts';
import { BodyPool } from './body-pool.ts';
import { encodeFrameHeader, type Frame, FrameReader } from './frame.ts';
import { decodeMessage, encodeBody, frameRule, kindNumber } from './message-codec.ts';
import type { Message } from './messages.ts';
import { type End, nextState, type SessionState } from './session-state.ts';
import type { Transport } from './transport.ts';

export class MessageChannel {
  readonly #transport: Transport;
  readonly #end: End;
  readonly #pool = new BodyPool();
  readonly #reader = new FrameReader(frameRule, this.#pool);
  readonly #arrived: (count: number) => void;
  #state: SessionState = 'new';
  #sendSequence = 0;
  #receiveSequence = 0;
  #bytesSent = 0;
  #bytesReceived = 0;

  /** `heard` is called whenever bytes arrive, long before the whole message has on a slow link. */
  constructor(transport: Transport, end: End, heard: () => void) {
    this.#transport = transport;
    this.#end = end;
    this.#arrived = (count) => {
      heard();
      this.#bytesReceived += count;
    };
  }

  get state(): SessionState {
    return this.#state;
  }

  /** Bytes of this session's frames so far, both directions. */
  get wireBytes(): number {
    return this.#bytesSent + this.#bytesReceived;
  }

  /** Sends a message that the state allows. Resolves when the transport can take more; rejects as it does. */
  send(message: Message): Promise<void> {
    const next = nextState(this.#state, this.#end, message.kind);
    assert(next !== undefined, `${this.#end} sends ${message.kind} in state ${this.#state}`);
    const number = kindNumber(message.kind);
    const parts = encodeBody(message);
    const header = encodeFrameHeader(number, this.#sendSequence, parts, frameRule(number)!);
    this.#state = next;
    this.#sendSequence++;
    this.#bytesSent += header.length;
    for (const part of parts) this.#bytesSent += part.length;
    return this.#transport.send([header, ...parts]);
  }

  /** The next message; undefined after an orderly end. Throws protocol_corrupt, protocol_unsupported, unreachable. */
  async receive(): Promise<Message | undefined> {
    for (;;) {
      const frame = this.#reader.next();
      if (frame !== undefined) return this.#accept(frame);
      const bytes = this.#reader.room();
      const piece = await this.#transport.receive(bytes && { bytes, arrived: this.#arrived });
      if (piece === undefined) return this.#ended();
      if (piece === bytes) {
        this.#reader.landed();
        continue;
      }
      this.#arrived(piece.length);
      this.#reader.push(piece);
    }
  }

  /** Takes back the memory of a message's bytes, for messages to come. */
  recycle(bytes: Uint8Array): void {
    this.#pool.give(bytes);
  }

  #accept(frame: Frame): Message {
    if (frame.sequence !== this.#receiveSequence) {
      throw new Failure(
        'protocol_corrupt',
        `receive frame ${this.#receiveSequence}: it carries sequence number ${frame.sequence}`,
      );
    }
    this.#receiveSequence++;
    const message = decodeMessage(frame);
    const next = nextState(this.#state, this.#end === 'client' ? 'server' : 'client', message.kind);
    if (next === undefined) {
      throw new Failure('protocol_corrupt', `receive ${message.kind}: unexpected in state ${this.#state}`);
    }
    this.#state = next;
    return message;
  }

  #ended(): undefined {
    if (this.#reader.isBetweenFrames) return undefined;
    throw new Failure('unreachable', 'receive message: the connection ended in the middle of one');
  }
}
