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
/**
 * The client cuts longer reads into pieces of this many bytes: enough to hide latency, small enough to spread. QEMU
 * takes new memory from the kernel for each longer one, whose page faults cost a third of what serving costs it.
 */
export const READ_PIECE_BYTES: number = 512 * 1024;

/** Requests in flight on one connection of the client; nbdkit works on 16 at once, QEMU likewise. */
export const CLIENT_IN_FLIGHT_COUNT = 32;
/** Bytes asked for and not answered on one connection of the client. */
export const CLIENT_IN_FLIGHT_BYTES = 32 * 1024 * 1024;
/** Requests that may wait for their turn on one connection; a caller that piles up more has a bug or no bound. */
export const CLIENT_WAITING_MAX = 65_536;
/** Most connections to one export. */
export const CONNECTIONS_MAX = 16;

/**
 * Where bytes land that are not the middle of a read's payload; what lies beyond a header is copied out of here. Short,
 * for most of what follows a header is payload.
 */
export const SCRATCH_BYTES = 8 * 1024;
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
/** An aborted read whose memory the kernel may still write to waits so long for the peer; then its connection ends. */
export const ABORT_GRACE_MS = 1_000;

/** Connections of one server; a booted VM uses one or two, a copy program up to a handful. */
export const SERVER_CONNECTIONS_MAX = 64;
/** Exports of one server: one per disk of the views that are open at the same time. */
export const SERVER_EXPORTS_MAX = 4096;
/** Requests of one connection that are worked on at once; the next one is not read from the socket before. */
export const SERVER_IN_FLIGHT_COUNT = 64;
/** Bytes of replies of one connection that are being read or not yet taken by the client. */
export const SERVER_IN_FLIGHT_BYTES = 64 * 1024 * 1024;
/** Memory for replies that one connection keeps for the next ones. */
export const SERVER_POOL_BYTES = 16 * 1024 * 1024;
/** What a client may send ahead before its stream is paused; also the longest option that is looked at. */
export const SERVER_QUEUE_BYTES = 64 * 1024;
/** Options of one negotiation: a client that asks more does not want to get on. */
export const OPTIONS_MAX = 256;
/** Queries of one meta context option that are answered. */
export const CONTEXT_QUERIES_MAX = 64;
/** Time for negotiating. */
export const HANDSHAKE_TIMEOUT_MS = 10_000;
/** Time that a closing connection has to send its last replies before it is cut. */
export const DRAIN_TIMEOUT_MS = 5_000;
/** A read shorter than this is not worth asking for its zeroes. */
export const HOLE_QUERY_BYTES_MIN = 64 * 1024;
/** Zeroes shorter than this are sent as data: a chunk of their own would cost more. */
export const HOLE_BYTES_MIN = 4096;
/** A read with more parts than this is sent as one. */
export const READ_PARTS_MAX = 32;
/** Calls to `extents` for one block status reply: a disk that answers in small pieces gets a shorter reply. */
export const EXTENTS_CALLS_MAX = 16;
