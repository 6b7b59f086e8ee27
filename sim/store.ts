/** Opens the production replica store over the ports of a run, and makes it first where there is none. */
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import type { Clock } from '#/lib/clock.ts';
import { hasCode } from '#/lib/failure.ts';
import type { FileSystem } from '#/disk/file-system.ts';
import type { StoreLimits } from '#/replica/limits.ts';
import type { Replica } from '#/replica/replica.ts';
import { createReplica, openReplica } from '#/replica/stored-replica.ts';

export const REPLICA_ID = '00112233445566778899aabbccddeeff';
export const VM_IDENTITY = { uuid: '6f1d1f9e-7d1c-4c59-9d0b-0a0b0c0d0e0f', name: 'ledger' };

/**
 * Bounds of the size of the disks, so that what happens at a bound happens: full media, several barriers in a first
 * copy, points of several delta files, a log that is written anew.
 */
const LIMITS: StoreLimits = {
  reserveBytes: 100_000,
  barrierBytes: 128 * 1024,
  deltaBlocksMax: 24,
  logBytesMin: 6_000,
};

export async function openStore(ports: { fileSystem: FileSystem; clock: Clock }): Promise<Replica> {
  const options = { files: ports.fileSystem, clock: ports.clock, limits: LIMITS };
  try {
    return await openReplica(options);
  } catch (error) {
    if (!hasCode(error, 'not_found')) throw error;
    return createReplica(options, {
      replicaId: REPLICA_ID,
      vm: VM_IDENTITY,
      siteId: 'west',
      digestKey: DIGEST_KEY,
    });
  }
}
