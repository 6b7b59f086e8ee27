/**
 * Names of our checkpoints: `antipode-REPLICA-ID`. What has another prefix, or is of another replica, belongs to
 * somebody else and is never touched.
 */

const PREFIX = 'antipode';
const TRACKING_ID = /^[0-9a-f]{32}$/;

/** The checkpoint, and its bitmaps, of a tracking id. */
export function checkpointName(replicaId: string, trackingId: string): string {
  const [, from, id] = BASELINE.exec(trackingId) ?? [];
  return from === undefined ? `${PREFIX}-${replicaId}-${trackingId}` : `${PREFIX}-${from}-${id}`;
}

const BASELINE = /^from-([0-9a-z][0-9a-z-]{0,63})-([0-9a-f]{32})$/;

/**
 * The tracking id of a VM that was recovered from that replica, from before its first write. Its checkpoint has the
 * name of the replica that it came from, since the one that it goes to is not known then.
 */
export function baselineTracking(fromReplicaId: string, id: string): string {
  return `from-${fromReplicaId}-${id}`;
}

/** True for a checkpoint that this replica made. */
export function isOwnCheckpoint(replicaId: string, name: string): boolean {
  const prefix = `${PREFIX}-${replicaId}-`;
  return name.startsWith(prefix) && TRACKING_ID.test(name.slice(prefix.length));
}

const STILL = /^still-[0-9a-f]{64}$/;

/** The tracking id of images of a powered-off VM, whose bitmaps are of no use, by their fingerprint. */
export function stillId(sha256: string): string {
  return `still-${sha256}`;
}

/** True for an id that no checkpoint stands for. */
export function isStillId(trackingId: string): boolean {
  return STILL.test(trackingId);
}
