/** Limits of the NBD client and server, each with its reason. No peer makes us allocate more than these. */

/** The protocol's own limit for export names, context names and messages. */
export const STRING_BYTES_MAX = 4096;
/** Longest reply to an option we take in: a description, a name and their lengths fit with room to spare. */
export const OPTION_REPLY_BYTES_MAX = 64 * 1024;
/** Most replies to one option: more exports or contexts than any server of ours or QEMU's has. */
export const OPTION_REPLIES_MAX = 4096;
/** Bytes a peer may send ahead of what was asked for during negotiation. */
export const NEGOTIATION_BYTES_MAX = 1024 * 1024;
/** Most meta contexts of one connection: each adds an extent list to every block status reply. */
export const CONTEXTS_MAX = 16;

/** The protocol's promise when a server names no block size, and the most we serve: 32 MiB. */
export const REQUEST_BYTES_DEFAULT_MAX = 32 * 1024 * 1024;
/** The client cuts longer reads into pieces of this many bytes: enough to hide latency, small enough to spread. */
export const READ_PIECE_BYTES = 1024 * 1024;

/** Requests in flight on one connection of the client; nbdkit works on 16 at once, QEMU likewise. */
export const CLIENT_IN_FLIGHT_COUNT = 32;
/** Bytes asked for and not answered on one connection of the client. */
export const CLIENT_IN_FLIGHT_BYTES = 32 * 1024 * 1024;
/** Requests that may wait for their turn on one connection; a caller that piles up more has a bug or no bound. */
export const CLIENT_WAITING_MAX = 65_536;
/** Most connections to one export. */
export const CONNECTIONS_MAX = 16;

/** Where bytes land that are not the middle of a read's payload; what lies beyond a header is copied out of here. */
export const SCRATCH_BYTES = 64 * 1024;
/** Payload that remains at least this long is received straight into the caller's memory. */
export const DIRECT_BYTES_MIN = 16 * 1024;
/** Disjoint ranges one read's chunks may leave open; no server scatters its reply like this. */
export const COVERAGE_RANGES_MAX = 4096;
/** Longest block status chunk that is read through (kept are far fewer): nbdkit sends up to 2^20 extents. */
export const STATUS_CHUNK_BYTES_MAX = 4 + 8 * 2 ** 20;
/** Range of one block status request at first: 4096 extents even when a 64 KiB bitmap alternates. */
export const STATUS_SPAN_BYTES_MIN = 256 * 1024 * 1024;
/** Range of one block status request at most; a multiple of every block size below the 32 bits of the field. */
export const STATUS_SPAN_BYTES_MAX = 2 * 1024 * 1024 * 1024;

/** Time for connecting and negotiating. */
export const CONNECT_TIMEOUT_MS = 10_000;
/** An aborted read whose memory the kernel may still write to waits this long for the peer, then the connection ends. */
export const ABORT_GRACE_MS = 1_000;
