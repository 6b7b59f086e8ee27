/**
 * Bounds of libvirt's RPC, and our own where the protocol has none.
 *
 * Source of the protocol's numbers: libvirt 9.0, `virnetprotocol.x` and `remote_protocol.x`. A daemon that sends more
 * than these is broken or hostile; nothing is allocated by a length that was not held against one of them.
 */

/** Longest packet after its length word. */
export const PACKET_BYTES_MAX = 33_554_432;

/** Longest string of either direction: an XML document, an error's text. */
export const STRING_BYTES_MAX = 4_194_304;

/** Most domains, networks or checkpoints in one list. */
export const LIST_MAX = 16_384;

/** Most typed parameters in one statistics record. */
export const STATS_PARAMETERS_MAX = 262_144;

export const JOB_PARAMETERS_MAX = 64;
export const DISK_ERRORS_MAX = 256;
export const FREEZE_MOUNTPOINTS_MAX = 256;
export const AUTH_TYPES_MAX = 20;

/**
 * Calls one connection has on the way. The daemon stops reading from a client with `max_client_requests` (5 by
 * default) requests under way, keepalive included; one less leaves room for the ping to be read and answered.
 */
export const CALLS_IN_FLIGHT_MAX = 4;

/** Calls that wait for their turn before a further one is refused. */
export const CALLS_QUEUED_MAX = 1024;

/** Milliseconds until a call is given up when the caller says nothing: twice what the QEMU driver waits for a job. */
export const CALL_TIMEOUT_MS = 60_000;

/** Silence after which the daemon is asked for a sign of life, and how many unanswered questions mean it is gone. */
export const KEEPALIVE_INTERVAL_MS = 5000;
export const KEEPALIVE_COUNT = 5;

/** Streams open at once on one connection. */
export const STREAMS_MAX = 16;

/** Bytes a stream holds for a slow reader before the stream is given up. */
export const STREAM_BUFFER_BYTES_MAX = 4_194_304;

/** Longest piece of data in one stream packet that we send; the protocol's oldest servers take no more. */
export const STREAM_WRITE_BYTES_MAX = 262_120;

/** Largest console picture: 8K, four bytes a pixel, as a portable pixmap or PNG. */
export const SCREENSHOT_BYTES_MAX = 7680 * 4320 * 4;

/** Events a subscription holds for a slow consumer before it ends with an error. */
export const EVENTS_QUEUED_MAX = 4096;

/** Events kept while the reply that tells their callback's number is still on the way. */
export const EVENTS_EARLY_MAX = 256;

/** Interfaces of a guest, and addresses of one of them, that libvirt's protocol carries. */
export const INTERFACES_MAX = 2048;
export const INTERFACE_ADDRESSES_MAX = 2048;

/** XML: what any definition that libvirt writes stays far below, and a bomb does not. */
export const XML_BYTES_MAX = 1_048_576;
export const XML_DEPTH_MAX = 64;
export const XML_NODES_MAX = 65_536;
