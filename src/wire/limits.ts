/** Limits of the replication protocol, each with its reason. No peer makes us allocate or queue more than these. */
import { SEGMENT_BYTES_MAX } from './segment.ts';

/** Protocols this program speaks. A session uses the highest that both ends speak. */
export const PROTOCOL_MIN = 1;
export const PROTOCOL_MAX = 1;

/** The longest control message: 64 disks with the longest keys, escaped by JSON, and room. */
export const CONTROL_BYTES_MAX: number = 128 * 1024;
/** As many disks as one VM may have replicated. */
export const DISKS_MAX = 64;
export const DISK_KEY_LENGTH_MAX = 64;
export const VM_NAME_LENGTH_MAX = 255;
/** Definition, firmware variables, TPM state, and room for more kinds. */
export const ATTACHMENTS_MAX = 16;
/** One attachment is put together in memory; firmware variables of common machines take up to 4 MiB. */
export const ATTACHMENT_BYTES_MAX: number = 16 * 1024 * 1024;
export const ATTACHMENT_PIECE_BYTES: number = 256 * 1024;
/** Nodes of a digest tree in one reply: 512 KiB. */
export const DIGESTS_MAX = 32_768;
/** A disk of 2^47 bytes has a tree of five levels above its blocks. */
export const TREE_LEVEL_MAX = 8;
export const FAILURE_TEXT_LENGTH_MAX = 2000;
/** The longest body of any frame: a segment's. */
export const BODY_BYTES_MAX: number = 8 + SEGMENT_BYTES_MAX;
/** Bodies shorter than this are not worth keeping their memory; longer than a segment's is none that comes often. */
export const BODY_BYTES_POOLED_MIN: number = 64 * 1024;
export const BODY_BYTES_POOLED_MAX: number = 8 + SEGMENT_BYTES_MAX;
/** As many as a full window has: a burst that fills it would otherwise leave most of it as garbage, each time. */
export const BODIES_POOLED_MAX = 64;

/** What a client may send beyond what was credited: enough for 100 ms at 160 MB/s, small beside a server's memory. */
export const WINDOW_DEFAULT = { segmentCount: 256, bytes: 16 * 1024 * 1024 };
/** Credit is given by the quarter window: the other three must always hold the longest segment. */
export const WINDOW_BYTES_MIN: number = 2 * SEGMENT_BYTES_MAX;
export const WINDOW_BYTES_MAX: number = 256 * 1024 * 1024;
export const WINDOW_SEGMENTS_MAX = 65_536;

/** An end that has sent nothing for this long says that it is alive. */
export const ALIVE_EVERY_MS = 5_000;
/** Silence after which the other end is given up. Three times as long: one late word is no reason. */
export const SILENCE_MAX_MS = 15_000;
/** A client has this long from the handshake to its `open`. */
export const OPEN_WITHIN_MS = 10_000;

/**
 * A connection is closed rather than used for another session after this: who is on its other end was proven when it
 * was made. The server holds to it, the client a little earlier, so that nobody is turned away.
 */
export const CONNECTION_AGE_MAX_MS = 600_000;
export const CONNECTION_REUSE_MS = 540_000;
/** A connection without a session is kept for the next one this long: a handshake now and then costs nothing. */
export const REST_MAX_MS = 15_000;
/** As many as an agent has cycles at once, and room. */
export const RESTS_MAX = 16;
/** An answer to `open` that is later than this is not waited for: the link may have broken while nobody spoke. */
export const REOPEN_WITHIN_MS = 2_000;

/** Connecting and the handshake together. */
export const CONNECT_WITHIN_MS = 10_000;
/** A peer that has not proven who it is may keep us waiting this long, and be this many at once. */
export const HANDSHAKE_WITHIN_MS = 5_000;
export const HANDSHAKES_MAX = 64;
/** As many agents as one server is made for, and room for those that reconnect. */
export const CONNECTIONS_MAX = 1024;
