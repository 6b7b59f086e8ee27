/** The bounds of the agent, each with its reason. */

/** Connections to each exported disk: one reads while another's bytes are copied. */
export const NBD_CONNECTIONS = 2;
/** How often scratch is looked at. A guest that writes 1 GiB/s fills 50 MiB of the reserve in between. */
export const SCRATCH_LOOK_MS = 50;
/** Free space that scratch never takes, or a fifth of a small file system. */
export const SCRATCH_RESERVE_BYTES: number = 256 * 2 ** 20;
/** A backup job that was told to end has this long; then the next moment finds it. */
export const JOB_END_MS = 10_000;
export const JOB_LOOK_MS = 5;
/** Events tell of a job's end; should they not come, it is looked at after this. */
export const JOB_EVENTS_MS = 50;
/** A look costs more than a job that ends at once; one that takes its time is looked at less and less. */
export const JOB_LOOK_MS_MAX = 40;
/** qemu-nbd serves its image within this time, or something is wrong with it. */
export const QEMU_NBD_START_MS = 10_000;
export const QEMU_NBD_LOOK_MS = 5;
/** Cycles of one agent under way at the same time: with their buffers 64 MiB, and enough to fill a link. */
export const CYCLES_AT_ONCE = 8;
/** Threads that hash and compress; more would only wait for the one that reads. */
export const CODEC_THREADS_MAX = 8;
