/** One end of a session in the hands of a test. */
import { encodeFrameHeader, FrameReader } from './frame.ts';
import { decodeMessage, encodeBody, frameRule, kindNumber } from './message-codec.ts';
import type { Message } from './messages.ts';
import type { Transport } from './transport.ts';

/** An end that says whatever the test wants, whether it may or not. */
export class RawEnd {
  readonly #transport: Transport;
  readonly #reader = new FrameReader(frameRule);
  #sequence = 0;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  async say(message: Message, sequence = this.#sequence): Promise<void> {
    const parts = encodeBody(message);
    const number = kindNumber(message.kind);
    this.#sequence = sequence + 1;
    await this.#transport.send([encodeFrameHeader(number, sequence, parts, frameRule(number)!), ...parts]);
  }

  async hear(): Promise<Message | undefined> {
    for (;;) {
      const frame = this.#reader.next();
      if (frame !== undefined) return decodeMessage(frame);
      const piece = await this.#transport.receive();
      if (piece === undefined) return undefined;
      this.#reader.push(piece);
    }
  }
}
