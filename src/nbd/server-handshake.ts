/**
 * The server's half of the fixed newstyle negotiation.
 *
 * Invariant: an option that is malformed, too long or unknown is refused by its own reply and the negotiation goes on;
 * the connection ends only where the protocol leaves no other way.
 */
import type { Disk } from '#/disk/disk.ts';
import { hasCode, Failure } from '#/lib/failure.ts';
import {
  CONTEXT_QUERIES_MAX,
  OPTIONS_MAX,
  REQUEST_BYTES_DEFAULT_MAX,
  SERVER_QUEUE_BYTES,
  STRING_BYTES_MAX,
} from './limits.ts';
import {
  encodeOptionReply,
  isMagic,
  OPTION_HEADER_BYTES,
  PayloadReader,
  PayloadWriter,
  view,
} from './option-codec.ts';
import {
  BASE_ALLOCATION,
  EXPORT,
  HANDSHAKE,
  INFO,
  OPTION,
  OPTION_MAGIC,
  REPLY,
  SERVER_MAGIC,
} from './protocol.ts';

/** What negotiation needs of a connection. */
export type ServerChannel = {
  read(count: number): Promise<Uint8Array>;
  skip(count: number): Promise<void>;
  write(bytes: Uint8Array): void;
};

export type ServedExport = { name: string; description: string; disk: Disk };

export type ExportTable = {
  find(name: string): ServedExport | undefined;
  list(): Iterable<ServedExport>;
};

/** What a connection agreed on. */
export type Agreement = { served: ServedExport; isStructured: boolean; hasAllocation: boolean };

/** The one meta context's id. */
export const ALLOCATION_ID = 1;

const EXPORT_FLAGS =
  EXPORT.hasFlags | EXPORT.readOnly | EXPORT.sendFlush | EXPORT.canMultiConn | EXPORT.sendCache;

const nothing = new Uint8Array(0);

/** Runs until the client enters an export; undefined when it leaves without one. */
export function negotiate(channel: ServerChannel, table: ExportTable): Promise<Agreement | undefined> {
  return new Negotiation(channel, table).run();
}

class Negotiation {
  readonly #channel: ServerChannel;
  readonly #table: ExportTable;
  #noZeroes = false;
  #isStructured = false;
  /** The export that the last SET_META_CONTEXT was about, when it selected `base:allocation`. */
  #allocationOf: ServedExport | undefined;

  constructor(channel: ServerChannel, table: ExportTable) {
    this.#channel = channel;
    this.#table = table;
  }

  async run(): Promise<Agreement | undefined> {
    await this.#greet();
    for (let count = 0; count < OPTIONS_MAX; count++) {
      const header = view(await this.#channel.read(OPTION_HEADER_BYTES));
      if (!isMagic(header, 0, OPTION_MAGIC)) throw corrupt('option without its magic');
      const option = header.getUint32(8);
      const length = header.getUint32(12);
      if (length > SERVER_QUEUE_BYTES) {
        if (option === OPTION.exportName) throw corrupt(`export name of ${length} bytes`);
        await this.#channel.skip(length);
        this.#reply(option, REPLY.tooBig);
        continue;
      }
      const payload = await this.#channel.read(length);
      if (option === OPTION.abort) {
        this.#reply(option, REPLY.ack);
        return undefined;
      }
      const served =
        option === OPTION.exportName
          ? this.#exportName(payload)
          : this.#option(option, new PayloadReader(payload));
      if (served === undefined) continue;
      const hasAllocation = this.#allocationOf === served;
      return { served, isStructured: this.#isStructured, hasAllocation };
    }
    throw new Failure('limit_exceeded', `negotiate NBD: more than ${OPTIONS_MAX} options`);
  }

  async #greet(): Promise<void> {
    const hello = new PayloadWriter()
      .u32(SERVER_MAGIC[0])
      .u32(SERVER_MAGIC[1])
      .u32(OPTION_MAGIC[0])
      .u32(OPTION_MAGIC[1]);
    this.#channel.write(hello.u16(HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes).end());
    const flags = view(await this.#channel.read(4)).getUint32(0);
    const known: number = HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes;
    if ((flags & ~known) !== 0) throw corrupt(`handshake flags 0x${flags.toString(16)}`);
    this.#noZeroes = (flags & HANDSHAKE.noZeroes) !== 0;
  }

  /** The oldest way in has no error reply: an unknown name ends the connection. */
  #exportName(payload: Uint8Array): ServedExport {
    const served = this.#table.find(new PayloadReader(payload).text(payload.length));
    if (served === undefined) throw new Failure('not_found', 'negotiate NBD: export name that nobody serves');
    const reply = new PayloadWriter().u64(served.disk.bytes).u16(EXPORT_FLAGS);
    if (!this.#noZeroes) reply.bytes(new Uint8Array(124));
    this.#channel.write(reply.end());
    return served;
  }

  /** Answers one option; returns the export when the client goes into it. */
  #option(option: number, payload: PayloadReader): ServedExport | undefined {
    try {
      switch (option) {
        case OPTION.list:
          payload.end();
          this.#list();
          return undefined;
        case OPTION.info:
        case OPTION.go: {
          const served = this.#info(option, payload);
          return option === OPTION.go ? served : undefined;
        }
        case OPTION.structuredReply:
          payload.end();
          this.#isStructured = true;
          this.#reply(option, REPLY.ack);
          return undefined;
        case OPTION.listMetaContext:
        case OPTION.setMetaContext:
          this.#metaContext(option, payload);
          return undefined;
      }
    } catch (error) {
      if (!hasCode(error, 'protocol_corrupt')) throw error;
      this.#reply(option, REPLY.invalid);
      return undefined;
    }
    this.#reply(option, REPLY.unsupported);
    return undefined;
  }

  #list(): void {
    for (const { name, description } of this.#table.list()) {
      this.#reply(OPTION.list, REPLY.server, new PayloadWriter().string(name).text(description).end());
    }
    this.#reply(OPTION.list, REPLY.ack);
  }

  #info(option: number, payload: PayloadReader): ServedExport | undefined {
    const name = payload.string();
    const wanted = new Set<number>();
    for (let left = payload.u16(); left > 0; left--) wanted.add(payload.u16());
    payload.end();
    const served = this.#table.find(name);
    if (served === undefined) {
      this.#reply(option, REPLY.unknown);
      return undefined;
    }
    const info = (kind: number): PayloadWriter => new PayloadWriter().u16(kind);
    this.#reply(option, REPLY.info, info(INFO.export).u64(served.disk.bytes).u16(EXPORT_FLAGS).end());
    const sizes = info(INFO.blockSize).u32(1).u32(4096).u32(REQUEST_BYTES_DEFAULT_MAX);
    this.#reply(option, REPLY.info, sizes.end());
    if (wanted.has(INFO.name)) this.#reply(option, REPLY.info, info(INFO.name).text(served.name).end());
    if (wanted.has(INFO.description) && served.description !== '') {
      this.#reply(option, REPLY.info, info(INFO.description).text(served.description).end());
    }
    this.#reply(option, REPLY.ack);
    return served;
  }

  #metaContext(option: number, payload: PayloadReader): void {
    const isListing = option === OPTION.listMetaContext;
    if (!isListing) this.#allocationOf = undefined;
    const name = payload.string();
    const count = payload.u32();
    if (count > CONTEXT_QUERIES_MAX) {
      this.#reply(option, REPLY.tooBig);
      return;
    }
    const queries = Array.from({ length: count }, () => payload.string());
    payload.end();
    if (!this.#isStructured) throw corrupt('meta context before structured replies');
    const served = this.#table.find(name);
    if (served === undefined) {
      this.#reply(option, REPLY.unknown);
      return;
    }
    const isWanted = isListing
      ? count === 0 || queries.includes('base:') || queries.includes(BASE_ALLOCATION)
      : queries.includes(BASE_ALLOCATION);
    if (isWanted) {
      const reply = new PayloadWriter().u32(isListing ? 0 : ALLOCATION_ID).text(BASE_ALLOCATION);
      this.#reply(option, REPLY.metaContext, reply.end());
      if (!isListing) this.#allocationOf = served;
    }
    this.#reply(option, REPLY.ack);
  }

  #reply(option: number, type: number, payload: Uint8Array = nothing): void {
    this.#channel.write(encodeOptionReply(option, type, payload));
  }
}

/** Throws `usage_invalid` for a name or description that the protocol has no room for. */
export function checkExportText(text: string): void {
  if (Buffer.byteLength(text) > STRING_BYTES_MAX || text.includes('\0')) {
    throw new Failure(
      'usage_invalid',
      `name an NBD export: more than ${STRING_BYTES_MAX} bytes, or a zero byte`,
    );
  }
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `negotiate NBD: ${what}`);
}
