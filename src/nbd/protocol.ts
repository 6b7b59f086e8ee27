/**
 * Numbers of the NBD protocol (github.com/NetworkBlockDevice/nbd, doc/proto.md), fixed newstyle and structured replies.
 *
 * Everything on the wire is big-endian. 64-bit magics are kept as two 32-bit halves.
 */

/** "NBDMAGIC": the first 8 bytes of a server. */
export const SERVER_MAGIC = [0x4e42444d, 0x41474943] as const;
/** "IHAVEOPT": the next 8 bytes, and the start of every option of a client. */
export const OPTION_MAGIC = [0x49484156, 0x454f5054] as const;
/** Start of every reply to an option. */
export const OPTION_REPLY_MAGIC = [0x0003e889, 0x045565a9] as const;
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const CHUNK_MAGIC = 0x668e33ef;

/** Magic, flags, type, cookie, offset, length of a request. */
export const REQUEST_BYTES = 28;
/** Magic, error, cookie. */
export const SIMPLE_REPLY_BYTES = 16;
/** Magic, flags, type, cookie, length of a chunk of a structured reply. */
export const CHUNK_BYTES = 20;

/** Handshake flags, both directions. */
export const HANDSHAKE = { fixedNewstyle: 1, noZeroes: 2 } as const;

export const OPTION = {
  exportName: 1,
  abort: 2,
  list: 3,
  startTls: 5,
  info: 6,
  go: 7,
  structuredReply: 8,
  listMetaContext: 9,
  setMetaContext: 10,
} as const;

/** Types of replies to an option. Bit 31 marks an error. */
export const REPLY = {
  ack: 1,
  server: 2,
  info: 3,
  metaContext: 4,
  unsupported: 0x80000001,
  policy: 0x80000002,
  invalid: 0x80000003,
  platform: 0x80000004,
  tlsRequired: 0x80000005,
  unknown: 0x80000006,
  shutdown: 0x80000007,
  blockSizeRequired: 0x80000008,
  tooBig: 0x80000009,
} as const;

export const INFO = { export: 0, name: 1, description: 2, blockSize: 3 } as const;

/** Transmission flags of an export. */
export const EXPORT = {
  hasFlags: 1,
  readOnly: 2,
  sendFlush: 4,
  sendDf: 128,
  canMultiConn: 256,
  sendCache: 1024,
} as const;

export const COMMAND = {
  read: 0,
  write: 1,
  disconnect: 2,
  flush: 3,
  trim: 4,
  cache: 5,
  writeZeroes: 6,
  blockStatus: 7,
  resize: 8,
} as const;

export const COMMAND_FLAG = { fua: 1, noHole: 2, df: 4, requestOne: 8, fastZero: 16 } as const;

/** Types of structured chunks. Bit 15 marks an error. */
export const CHUNK = {
  none: 0,
  offsetData: 1,
  offsetHole: 2,
  blockStatus: 5,
  error: 0x8001,
  errorOffset: 0x8002,
} as const;

export const CHUNK_FLAG_DONE = 1;
export const CHUNK_ERROR_BIT = 0x8000;

/** Error numbers as the protocol defines them, whatever the machine's own are. */
export const ERRNO = {
  EPERM: 1,
  EIO: 5,
  ENOMEM: 12,
  EINVAL: 22,
  ENOSPC: 28,
  EOVERFLOW: 75,
  ENOTSUP: 95,
  ESHUTDOWN: 108,
} as const;

/** Flags of `base:allocation`. */
export const STATE = { hole: 1, zero: 2 } as const;
/** Flag of `qemu:dirty-bitmap:NAME`. */
export const STATE_DIRTY = 1;

export const BASE_ALLOCATION = 'base:allocation';
export const DIRTY_BITMAP_PREFIX = 'qemu:dirty-bitmap:';

/** "EIO" for 5, "error 7" for a number the protocol does not name. */
export function errnoName(errno: number): string {
  for (const [name, value] of Object.entries(ERRNO)) if (value === errno) return name;
  return `error ${errno}`;
}
