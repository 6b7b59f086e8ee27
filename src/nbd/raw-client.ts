/**
 * A client that says exactly what a test tells it to, right or wrong, to our server over a pair of streams in memory.
 * For tests only.
 */
import { duplexPair, type Duplex } from 'node:stream';
import { Failure } from '#/lib/failure.ts';
import { ByteQueue } from './byte-queue.ts';
import type { NbdServer } from './nbd-server.ts';
import { encodeOption, PayloadWriter, setUint64, view } from './option-codec.ts';
import { CHUNK_MAGIC, OPTION, REQUEST_BYTES, REQUEST_MAGIC } from './protocol.ts';

export type RawChunk = { type: number; isLast: boolean; cookie: number; payload: Uint8Array };

export class RawClient {
  readonly stream: Duplex;
  /** Resolves when the server is done with this client. */
  readonly served: Promise<void>;
  readonly #queue = new ByteQueue(64 * 1024 * 1024);

  constructor(server: NbdServer) {
    const [ours, theirs] = duplexPair();
    this.stream = ours;
    this.served = server.serve(theirs);
    ours.on('data', (bytes: Uint8Array) => this.#queue.push(bytes));
    ours.on('error', () => undefined);
    ours.on('close', () => this.#queue.end(new Failure('unreachable', 'the server hung up')));
    ours.on('end', () => this.#queue.end(new Failure('unreachable', 'the server hung up')));
  }

  read(count: number): Promise<Uint8Array> {
    return this.#queue.read(count);
  }

  write(bytes: Uint8Array): void {
    this.stream.write(bytes);
  }

  async greet(flags = 3): Promise<void> {
    await this.read(18);
    this.write(new PayloadWriter().u32(flags).end());
  }

  /** Sends an option and returns the type and payload of the next reply. */
  async option(
    option: number,
    payload: Uint8Array = new Uint8Array(0),
  ): Promise<{ type: number; payload: Uint8Array }> {
    this.write(encodeOption(option, payload));
    return this.optionReply();
  }

  async optionReply(): Promise<{ type: number; payload: Uint8Array }> {
    const header = view(await this.read(20));
    return { type: header.getUint32(12), payload: await this.read(header.getUint32(16)) };
  }

  /** Into `name` with structured replies and `base:allocation`. */
  async enter(name: string): Promise<void> {
    await this.greet();
    await this.option(OPTION.structuredReply);
    const query = new PayloadWriter().string(name).u32(1).string('base:allocation').end();
    await this.option(OPTION.setMetaContext, query);
    await this.optionReply();
    await this.option(OPTION.go, new PayloadWriter().string(name).u16(0).end());
    await this.optionReply();
    await this.optionReply();
  }

  request(
    command: number,
    range: { offset?: number; length?: number; flags?: number; cookie?: number },
  ): void {
    const bytes = new Uint8Array(REQUEST_BYTES);
    const data = view(bytes);
    data.setUint32(0, REQUEST_MAGIC);
    data.setUint16(4, range.flags ?? 0);
    data.setUint16(6, command);
    setUint64(data, 8, range.cookie ?? 1);
    setUint64(data, 16, range.offset ?? 0);
    data.setUint32(24, range.length ?? 0);
    this.write(bytes);
  }

  /** The next chunk of a structured reply, or a simple reply as one with its error number as the type. */
  async chunk(): Promise<RawChunk> {
    const magic = view(await this.read(4)).getUint32(0);
    if (magic !== CHUNK_MAGIC) {
      const data = view(await this.read(12));
      return { type: data.getUint32(0), isLast: true, cookie: data.getUint32(8), payload: new Uint8Array(0) };
    }
    const data = view(await this.read(16));
    const [flags, type, cookie] = [data.getUint16(0), data.getUint16(2), data.getUint32(8)];
    return { type, isLast: (flags & 1) !== 0, cookie, payload: await this.read(data.getUint32(12)) };
  }

  /** The error number of the next reply, 0 for none. */
  async errno(): Promise<number> {
    const chunk = await this.chunk();
    if (chunk.type < 0x8000) return chunk.type;
    return view(chunk.payload).getUint32(0);
  }
}
