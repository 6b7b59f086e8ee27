/** Bounds of the replica store, each with its reason. */

/** Blocks below one level-1 node, whose digests make one page of 4096 bytes: 1 MiB of disk. */
export const NODE_BLOCKS = 256;
export const PAGE_BYTES = 4096;

/** Data blocks of one delta file: 4 GiB; its tables then take 16 MiB of memory while they are written or read. */
export const DELTA_BLOCKS_MAX: number = 1024 * 1024;
/** Runs of zero blocks of one delta file; each takes 24 bytes of memory. */
export const DELTA_ZERO_RUNS_MAX = 512 * 1024;
/** Delta files a replica may have: slots are 16-bit numbers. An hour of a point each second and a day of hours fit. */
export const DELTAS_MAX = 16_384;

/** Bytes of a first copy between two barriers: what a crash makes the replica read and digest again. */
export const BARRIER_BYTES: number = 128 * 1024 * 1024;
/** Nodes that are marked at once: one small sync for 64 MiB of a first copy. */
export const MARK_NODES = 64;

/** Writes that may be on their way to the file system, by count and by bytes. */
export const WRITES_IN_FLIGHT = 16;
export const WRITE_BYTES_IN_FLIGHT: number = 8 * 1024 * 1024;
/** Small appends are put together into writes of this length. */
export const APPEND_BYTES: number = 512 * 1024;
/** The first of them is shorter: the delta of an idle guest should not take as much memory as a busy one's. */
export const APPEND_BYTES_FIRST: number = 16 * 1024;

/** Points that may be merged into one in one step: a block is rewritten once for each power of this many points. */
export const MERGE_FAN_IN = 16;
/** Deltas that together are larger stay apart: rewriting them costs more than keeping them. */
export const MERGE_BYTES_MAX: number = 2 * 1024 * 1024 * 1024;
/** A segment that is less than this alive is packed anew when it is merged. */
export const MERGE_LIVE_MIN = 0.75;

/** Space that only compaction may use: a full disk can still be relieved. */
export const RESERVE_BYTES: number = 256 * 1024 * 1024;
/** Bytes received between two looks at the free space. */
export const SPACE_CHECK_BYTES: number = 32 * 1024 * 1024;

/** Decoded segments that one view keeps. */
export const VIEW_CACHE_BYTES: number = 32 * 1024 * 1024;
/** Pages of digests that one call of `extents` may read. */
export const EXTENT_PAGES_MAX = 256;
/** Delta files held open beside those of views that were opened without the replica's lock. */
export const OPEN_DELTAS_MAX = 64;

/** A log longer than this, and than LOG_GROWTH times its summary, is written anew. */
export const LOG_BYTES_MIN: number = 1024 * 1024;
export const LOG_GROWTH = 4;
export const LOG_RECORD_BYTES_MAX: number = 32 * 1024 * 1024;
/** Points of one replica. */
export const POINTS_MAX = 16_384;

export const SUPERBLOCK_BYTES_MAX: number = 64 * 1024;
export const PROBLEMS_MAX = 100;

/** What a test may make smaller, to see what else takes gigabytes. */
export type StoreLimits = {
  reserveBytes: number;
  barrierBytes: number;
  deltaBlocksMax: number;
  logBytesMin: number;
};

export const STORE_LIMITS: StoreLimits = {
  reserveBytes: RESERVE_BYTES,
  barrierBytes: BARRIER_BYTES,
  deltaBlocksMax: DELTA_BLOCKS_MAX,
  logBytesMin: LOG_BYTES_MIN,
};
