/** Opens and makes replicas as directories of the store. */
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import type { Clock } from '#/lib/clock.ts';
import { createReplica, openReplica } from '#/replica/stored-replica.ts';
import type { ReplicaOpener } from './replica-store.ts';

export function replicaOpener(storePath: string, clock: Clock): ReplicaOpener {
  const files = new NodeFileSystem(storePath);
  return {
    open: (replicaId) => openReplica({ files, clock, directory: replicaId }),
    create: (identity) => createReplica({ files, clock, directory: identity.replicaId }, identity),
  };
}
