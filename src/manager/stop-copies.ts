/**
 * I5: before a VM comes up here, every site that answers and may run a copy of it is asked to make that yield, and
 * waited for, so that two never run that could have known of each other. A site that does not answer holds nothing up:
 * that is the disaster a recovery is for.
 */
import { VmPresence } from '#/api/peer.ts';
import type { FailureReport } from '#/control/reports.ts';
import { describe, failureIn } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import type { Peers } from './peers.ts';
import { relatedSites } from './related-sites.ts';
import { startedMeanwhile } from './step-outcome.ts';
import type { Job } from './store/job-store.ts';
import type { PeerRow } from './store/peer-store.ts';
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';

const PRESENCE_TIMEOUT_MS = 2000;
const LATER = 'if its copy runs, it yields when the site is back';

type Parts = { context: Context; peers: Peers; claims: Claims };

/** What is known of the other copies, in words, or what keeps the VM from being brought up. Never rejects. */
export async function stopCopies(parts: Parts, job: Job): Promise<string | FailureReport> {
  try {
    const { db } = parts.context;
    const replica = (await listReplicas(db)).find(({ id }) => id === job.replica_id);
    const peers = await parts.peers.list();
    const source = peers.find(({ site_id: id }) => id === replica?.source_site_id);
    const related = replica === undefined ? new Set<string>() : await relatedSites(db, replica.vm_uuid);
    const others = peers.filter(({ site_id: id }) => id !== source?.site_id && related.has(id));
    const [first, ...rest] = await Promise.all([
      replica === undefined || source === undefined
        ? 'the protected site is not paired any more'
        : askSource(parts, { job, peer: source, replica }),
      ...others.map((peer) => askOther(parts, peer, replica!)),
    ]);
    return typeof first === 'string' ? [first, ...rest.filter((words) => words !== '')].join('; ') : first!;
  } catch (error) {
    return `the protected site was not asked: ${describe(error)}`;
  }
}

async function askSource(
  { claims }: Parts,
  { job, peer, replica }: { job: Job; peer: PeerRow; replica: ReplicaRecord },
): Promise<string | FailureReport> {
  if (job.request.is_source_silent) return `the protected site does not answer: ${LATER}`;
  try {
    const { state, message, is_off: isOff } = await claims.askToYield(peer, replica.vm_uuid);
    if (job.request.purpose === 'migration' && state === 'yielded' && isOff === false) {
      return startedMeanwhile(job, peer.site_name, message);
    }
    if (state === 'yielded') return `the copy at site ${peer.site_name} yields: ${message}`;
    return state === 'absent' ? message : `WARNING, two copies may run: ${message}`;
  } catch (error) {
    return `site ${peer.site_name} does not answer: ${LATER} (${describe(error)})`;
  }
}

/** A third site, which most often has a replica and no copy: nothing is said then. */
async function askOther({ claims, peers }: Parts, peer: PeerRow, replica: ReplicaRecord): Promise<string> {
  try {
    const path = `/peer/v1/vms/${replica.vm_uuid}`;
    const options = { method: 'GET', path, timeoutMs: PRESENCE_TIMEOUT_MS } as const;
    await peers.call(peer, options, VmPresence);
    const { state, message } = await claims.askToYield(peer, replica.vm_uuid);
    if (state === 'yielded') return `the copy at site ${peer.site_name} yields: ${message}`;
    return state === 'absent' ? '' : `WARNING, two copies may run: ${message}`;
  } catch (error) {
    if (failureIn(error)?.code === 'not_found') return '';
    return `site ${peer.site_name} does not answer: ${LATER} (${describe(error)})`;
  }
}
