/** The bounds of the replication engine, each with its reason. */
import { BLOCK_BYTES } from '#/disk/disk.ts';
import { TREE_FANOUT } from '#/disk/digest-tree.ts';

/** Blocks under one level-1 node of the digest tree: the unit that is read, compared and recorded together. */
export const GROUP_BLOCKS = TREE_FANOUT;
/** 1 MiB: long enough to read at full speed, short enough that a few in flight are little memory. */
export const GROUP_BYTES: number = GROUP_BLOCKS * BLOCK_BYTES;

/** Groups read and encoded at the same time in one cycle; with their buffers, the engine's memory. */
export const GROUPS_IN_FLIGHT = 8;

/** A shorter changed range is read without asking for its allocation: the question costs as much as the read. */
export const ALLOCATION_ASKED_BYTES: number = 2 * GROUP_BYTES;
/** Most of a disk that one question about allocation covers. */
export const ALLOCATION_SPAN_BYTES: number = 2 ** 30;

/** Nodes asked for in one request while a record is synchronised: 64 KiB of digests. */
export const SYNC_NODES_MAX = 4096;

/** Ranges kept to be compared again (replica-record.ts); nearest ones merge beyond it. */
export const COMPARE_RANGES_MAX = 1024;

/** Disks of one VM; segments name them with 16 bits, libvirt allows fewer than this. */
export const DISKS_MAX = 64;

/** How often a cut transfer of one moment is taken up again before the moment is given up. */
export const RESUMES_MAX = 100;

/** Longest time a moment is held for a link that is away, whatever scratch it takes. */
export const MOMENT_HELD_MS = 600_000;

/** Bytes of an attachment: a definition, firmware variables, the state of a TPM. */
export const ATTACHMENT_BYTES_MAX: number = 16 * 2 ** 20;
