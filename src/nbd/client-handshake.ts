/**
 * The client's half of the fixed newstyle negotiation: structured replies, meta contexts, GO, LIST.
 *
 * Runs on any channel of bytes. Invariant: what the peer sends is bounded in length and count before it is kept, and
 * every deviation is a named Failure.
 */
import { Failure } from '#/lib/failure.ts';
import { CONTEXTS_MAX, OPTION_REPLIES_MAX, REQUEST_BYTES_DEFAULT_MAX } from './limits.ts';
import {
  decodeOptionReply,
  encodeOption,
  isMagic,
  OPTION_REPLY_HEADER_BYTES,
  PayloadReader,
  PayloadWriter,
  view,
} from './option-codec.ts';
import { EXPORT, HANDSHAKE, INFO, OPTION, OPTION_MAGIC, REPLY, SERVER_MAGIC } from './protocol.ts';

/** What negotiation needs of a connection. */
export type Channel = { read(count: number): Promise<Uint8Array>; write(bytes: Uint8Array): void };

export type ExportInfo = {
  bytes: number;
  flags: number;
  /** Alignment of offsets and lengths, in bytes. */
  blockMin: number;
  blockPreferred: number;
  /** Most bytes of one request. */
  blockMax: number;
  isStructured: boolean;
  canMultiConn: boolean;
  description: string;
  /** Name by id of each meta context that the server selected. */
  contexts: Map<number, string>;
};

export type ListedExport = { name: string; description: string };

/** Greets the server. Both sides use fixed newstyle from here, or this fails. */
export async function greet(channel: Channel): Promise<void> {
  const hello = view(await channel.read(18));
  if (!isMagic(hello, 0, SERVER_MAGIC)) throw corrupt('greeting without NBDMAGIC');
  if (!isMagic(hello, 8, OPTION_MAGIC)) {
    throw new Failure('protocol_unsupported', 'negotiate NBD with a server of the old style');
  }
  const flags = hello.getUint16(16);
  if ((flags & HANDSHAKE.fixedNewstyle) === 0) {
    throw new Failure('protocol_unsupported', 'negotiate NBD with a server without fixed newstyle');
  }
  channel.write(new PayloadWriter().u32(flags & (HANDSHAKE.fixedNewstyle | HANDSHAKE.noZeroes)).end());
}

/** Structured replies, the wanted meta contexts as far as the server has them, and into transmission. */
export async function enterExport(
  channel: Channel,
  exportName: string,
  contexts: readonly string[],
): Promise<ExportInfo> {
  const isStructured = await askStructuredReplies(channel);
  const selected =
    isStructured && contexts.length > 0
      ? await askContexts(channel, OPTION.setMetaContext, { exportName, queries: contexts })
      : new Map<number, string>();
  for (const name of selected.values()) {
    if (!contexts.includes(name)) throw corrupt(`meta context ${JSON.stringify(name)} that nobody asked for`);
  }
  if (new Set(selected.values()).size !== selected.size) throw corrupt('one meta context under two ids');
  const info = await go(channel, exportName);
  return { ...info, isStructured, contexts: selected };
}

/** Names and descriptions of the server's exports. */
export async function askExports(channel: Channel): Promise<ListedExport[]> {
  const exports: ListedExport[] = [];
  const keep = (type: number, reply: PayloadReader): void => {
    if (type !== REPLY.server) throw corrupt(`reply ${type} to LIST`);
    const name = reply.string();
    exports.push({ name, description: reply.text(reply.left) });
  };
  try {
    await ask(channel, OPTION.list, new Uint8Array(0), keep);
  } catch (error) {
    throw error instanceof OptionRefused ? error.toFailure('list the NBD exports of a server') : error;
  }
  return exports;
}

/** The meta contexts that an export offers; empty when the server has none. */
export async function askAvailableContexts(channel: Channel, exportName: string): Promise<string[]> {
  if (!(await askStructuredReplies(channel))) return [];
  const queries = ['base:', 'qemu:'];
  const offered = await askContexts(channel, OPTION.listMetaContext, { exportName, queries });
  return [...new Set(offered.values())];
}

/** Says that this connection ends without entering transmission. */
export function abandon(channel: Channel): void {
  channel.write(encodeOption(OPTION.abort, new Uint8Array(0)));
}

async function askStructuredReplies(channel: Channel): Promise<boolean> {
  try {
    await ask(channel, OPTION.structuredReply, new Uint8Array(0), unexpected);
    return true;
  } catch (error) {
    if (error instanceof OptionRefused) return false;
    throw error;
  }
}

async function askContexts(
  channel: Channel,
  option: number,
  { exportName, queries }: { exportName: string; queries: readonly string[] },
): Promise<Map<number, string>> {
  const payload = new PayloadWriter().string(exportName).u32(queries.length);
  for (const query of queries) payload.string(query);
  const contexts = new Map<number, string>();
  const isListing = option === OPTION.listMetaContext;
  let count = 0;
  const keep = (type: number, reply: PayloadReader): void => {
    if (type !== REPLY.metaContext) throw corrupt(`reply ${type} to a meta context query`);
    const id = reply.u32();
    const name = reply.text(reply.left);
    // In a listing the ids have no meaning and are usually all zero.
    const key = isListing ? count : id;
    if (contexts.has(key)) throw corrupt(`meta context id ${id} used twice`);
    contexts.set(key, name);
    count++;
    if (!isListing && count > CONTEXTS_MAX) throw corrupt(`more than ${CONTEXTS_MAX} meta contexts`);
  };
  try {
    await ask(channel, option, payload.end(), keep);
  } catch (error) {
    if (!(error instanceof OptionRefused)) throw error;
    if (error.type === REPLY.unsupported) return new Map();
    throw error.toFailure(entering(exportName));
  }
  return contexts;
}

type GoInfo = Omit<ExportInfo, 'isStructured' | 'contexts'>;

async function go(channel: Channel, exportName: string): Promise<GoInfo> {
  const payload = new PayloadWriter().string(exportName).u16(2).u16(INFO.blockSize).u16(INFO.description);
  let size: { bytes: number; flags: number } | undefined;
  let blocks = { blockMin: 1, blockPreferred: 4096, blockMax: REQUEST_BYTES_DEFAULT_MAX };
  let description = '';
  const keep = (type: number, reply: PayloadReader): void => {
    if (type !== REPLY.info) throw corrupt(`reply ${type} to GO`);
    const kind = reply.u16();
    if (kind === INFO.export) {
      size = { bytes: reply.u64(), flags: reply.u16() };
      reply.end();
    } else if (kind === INFO.blockSize) blocks = decodeBlockSizes(reply);
    else if (kind === INFO.description) description = reply.text(reply.left);
  };
  try {
    await ask(channel, OPTION.go, payload.end(), keep);
  } catch (error) {
    throw error instanceof OptionRefused ? error.toFailure(entering(exportName)) : error;
  }
  if (size === undefined) throw corrupt('GO acknowledged without the size of the export');
  return { ...size, ...blocks, description, canMultiConn: (size.flags & EXPORT.canMultiConn) !== 0 };
}

function decodeBlockSizes(reply: PayloadReader): Pick<GoInfo, 'blockMin' | 'blockPreferred' | 'blockMax'> {
  const blockMin = reply.u32();
  const blockPreferred = reply.u32();
  const blockMax = reply.u32();
  reply.end();
  // The protocol: a power of two up to 64 KiB, then one of at least 512, then a multiple of the first or all ones.
  const isValid =
    isPowerOfTwo(blockMin) &&
    blockMin <= 65_536 &&
    isPowerOfTwo(blockPreferred) &&
    blockPreferred >= Math.max(512, blockMin) &&
    blockMax >= blockPreferred &&
    (blockMax === 0xffffffff || blockMax % blockMin === 0);
  if (!isValid) throw corrupt(`block sizes ${blockMin}, ${blockPreferred}, ${blockMax}`);
  return { blockMin, blockPreferred, blockMax: Math.min(blockMax, REQUEST_BYTES_DEFAULT_MAX) };
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && Number.isInteger(Math.log2(value));
}

/** The server answered an option with an error; the caller decides what that means. */
class OptionRefused extends Error {
  readonly type: number;

  constructor(type: number, message: string) {
    super(message);
    this.type = type;
  }

  toFailure(doing: string): Failure {
    const code =
      this.type === REPLY.unknown
        ? 'not_found'
        : this.type === REPLY.shutdown
          ? 'unreachable'
          : this.type === REPLY.unsupported || this.type === REPLY.tlsRequired
            ? 'protocol_unsupported'
            : 'nbd_error';
    return new Failure(code, doing, { cause: this });
  }
}

/** Sends an option and hands every reply to `keep` until the server acknowledges; an error reply is thrown. */
async function ask(
  channel: Channel,
  option: number,
  payload: Uint8Array,
  keep: (type: number, payload: PayloadReader) => void,
): Promise<void> {
  channel.write(encodeOption(option, payload));
  for (let count = 0; count < OPTION_REPLIES_MAX; count++) {
    const { type, length } = decodeOptionReply(await channel.read(OPTION_REPLY_HEADER_BYTES), option);
    const reply = new PayloadReader(await channel.read(length));
    if (type === REPLY.ack) {
      reply.end();
      return;
    }
    if (type >= 0x80000000) throw new OptionRefused(type, refusal(option, type, reply));
    keep(type, reply);
  }
  throw corrupt(`more than ${OPTION_REPLIES_MAX} replies to option ${option}`);
}

function refusal(option: number, type: number, reply: PayloadReader): string {
  const name = Object.entries(REPLY).find(([, value]) => value === type)?.[0] ?? `error ${type - 0x80000000}`;
  const text = reply.left > 0 ? reply.text(reply.left) : '';
  return `server refused option ${option} (${name})${text === '' ? '' : `, saying ${JSON.stringify(text)}`}`;
}

function unexpected(type: number): never {
  throw corrupt(`reply ${type} where only an acknowledgement is possible`);
}

function entering(exportName: string): string {
  return `enter the NBD export ${JSON.stringify(exportName)}`;
}

function corrupt(what: string): Failure {
  return new Failure('protocol_corrupt', `negotiate NBD: ${what}`);
}
