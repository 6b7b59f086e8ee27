/**
 * Flags of libvirt's calls by name. A call takes a list such as `['inactive', 'secure']`.
 *
 * Source: libvirt 9.0, `libvirt-domain.h`, `libvirt-domain-checkpoint.h`, `libvirt-network.h`.
 */

/** Bits by name. */
type FlagTable = Readonly<Record<string, number>>;

export type FlagNames<Table extends FlagTable> = readonly (keyof Table & string)[];

/** The bits of the named flags together. */
export function flagBits<Table extends FlagTable>(table: Table, names: FlagNames<Table>): number {
  let bits = 0;
  for (const name of names) bits |= table[name] ?? 0;
  return bits >>> 0;
}

export const ListDomainsFlag = {
  active: 1 << 0,
  inactive: 1 << 1,
  persistent: 1 << 2,
  transient: 1 << 3,
  running: 1 << 4,
  paused: 1 << 5,
  shutoff: 1 << 6,
  autostart: 1 << 10,
  hasCheckpoint: 1 << 14,
  noCheckpoint: 1 << 15,
} as const;

export const DomainXmlFlag = {
  secure: 1 << 0,
  inactive: 1 << 1,
  updateCpu: 1 << 2,
  migratable: 1 << 3,
} as const;

export const DefineFlag = { validate: 1 << 0 } as const;

export const StartFlag = {
  paused: 1 << 0,
  autodestroy: 1 << 1,
  bypassCache: 1 << 2,
  forceBoot: 1 << 3,
  validate: 1 << 4,
  resetNvram: 1 << 5,
} as const;

export const ShutdownFlag = { acpi: 1 << 0, guestAgent: 1 << 1 } as const;

export const DestroyFlag = { graceful: 1 << 0 } as const;

export const UndefineFlag = {
  managedSave: 1 << 0,
  snapshotsMetadata: 1 << 1,
  nvram: 1 << 2,
  keepNvram: 1 << 3,
  checkpointsMetadata: 1 << 4,
  tpm: 1 << 5,
  keepTpm: 1 << 6,
} as const;

/** What a change of devices or metadata concerns; none means the domain as it is now. */
export const AffectFlag = { live: 1 << 0, config: 1 << 1 } as const;

export const DeviceFlag = { ...AffectFlag, force: 1 << 2 } as const;

export const BackupFlag = { reuseExternal: 1 << 0 } as const;

export const CheckpointCreateFlag = { redefine: 1 << 0, quiesce: 1 << 1, redefineValidate: 1 << 2 } as const;

export const CheckpointXmlFlag = { secure: 1 << 0, noDomain: 1 << 1, bytes: 1 << 2 } as const;

/** For the checkpoints of a domain: `roots`; for those below a checkpoint: `descendants` (the same bit). */
export const CheckpointListFlag = {
  roots: 1 << 0,
  descendants: 1 << 0,
  topological: 1 << 1,
  leaves: 1 << 2,
  noLeaves: 1 << 3,
} as const;

export const CheckpointDeleteFlag = { children: 1 << 0, metadataOnly: 1 << 1, childrenOnly: 1 << 2 } as const;

export const BlockCommitFlag = { shallow: 1 << 0, delete: 1 << 1, active: 1 << 2, relative: 1 << 3 } as const;

/** Bandwidths are always given in bytes a second; the calls differ in the bit that says so. */
export const BLOCK_PULL_BANDWIDTH_BYTES = 1 << 6;
export const BLOCK_COMMIT_BANDWIDTH_BYTES = 1 << 4;
export const BLOCK_JOB_INFO_BANDWIDTH_BYTES = 1 << 0;
export const BLOCK_RESIZE_BYTES = 1 << 0;

export const BlockJobAbortFlag = { async: 1 << 0, pivot: 1 << 1 } as const;

export const JobStatsFlag = { completed: 1 << 0, keepCompleted: 1 << 1 } as const;

export const ConsoleFlag = { force: 1 << 0, safe: 1 << 1 } as const;

export const MonitorFlag = { hmp: 1 << 0 } as const;

export const StatsFlag = {
  state: 1 << 0,
  cpu: 1 << 1,
  balloon: 1 << 2,
  vcpu: 1 << 3,
  interface: 1 << 4,
  block: 1 << 5,
  perf: 1 << 6,
  iothread: 1 << 7,
  memory: 1 << 8,
  dirtyRate: 1 << 9,
} as const;

export const StatsOptionFlag = {
  active: 1 << 0,
  inactive: 1 << 1,
  running: 1 << 4,
  noWait: 1 << 29,
  backing: 1 << 30,
  enforce: 1 << 31,
} as const;

export const ListNetworksFlag = {
  inactive: 1 << 0,
  active: 1 << 1,
  persistent: 1 << 2,
  transient: 1 << 3,
} as const;

export const NetworkXmlFlag = { inactive: 1 << 0 } as const;
