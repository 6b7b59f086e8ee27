/** What speaks against a planned migration, asked of the protected site before anything is changed there. */
import { VmPresence } from '#/api/peer.ts';
import type { RecoveryRequest } from '#/api/recoveries.ts';
import type { ReplicaReport } from '#/control/reports.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import type { AgentMember } from './inventory.ts';
import type { Peers } from './peers.ts';
import type { PeerRow } from './store/peer-store.ts';
import type { ReplicaRecord } from './store/replica-store.ts';

const PRESENCE_TIMEOUT_MS = 2000;

/** Throws usage_invalid for what a migration cannot be asked. */
export function checkMigrationRequest(asked: RecoveryRequest): void {
  if (asked.reprotect === true && asked.purpose === 'test') {
    throw new Failure('usage_invalid', 'a test is not protected: it is thrown away');
  }
  if (asked.purpose !== 'migration') {
    if (asked.shut_down === undefined && asked.shut_down_timeout_ms === undefined) return;
    throw new Failure('usage_invalid', 'only a migration shuts the VM down at the protected site', {
      hint: `Ask for one: antipode migrate ${asked.vm}`,
    });
  }
  if (asked.point !== undefined) {
    throw new Failure(
      'usage_invalid',
      'a migration goes on from the last state of the VM, not from an older point',
      {
        hint: `For an older point: antipode recover ${asked.vm} --point ${asked.point}`,
      },
    );
  }
  if (asked.force === true) {
    throw new Failure('usage_invalid', 'a migration is not forced: it needs the protected site', {
      hint: `Without that site: antipode recover ${asked.vm} --force`,
    });
  }
}

/** Throws conflict, unreachable, storage_full. */
export async function checkMigration(
  peers: Peers,
  at: { replica: ReplicaRecord; report: ReplicaReport; host: AgentMember },
  asked: RecoveryRequest,
): Promise<void> {
  const { replica, report, host } = at;
  const name = replica.vm_name;
  if (replica.state !== 'active') {
    throw new Failure(
      'conflict',
      `VM ${name} is not protected to this site any more: its replica is ${replica.state}`,
      {
        hint: 'Protect it again first; or bring up what is here: antipode recover',
      },
    );
  }
  const freeBytes = host.report?.host.storage_free_bytes ?? 0;
  if (freeBytes < report.stored_bytes) {
    const has = `host ${host.name}, which has ${freeBytes} free`;
    const need = `VM ${name} takes about ${report.stored_bytes} bytes on ${has}`;
    throw new Failure('storage_full', need, { hint: 'Free or add space there first.' });
  }
  const peer = (await peers.list()).find((known) => known.site_id === replica.source_site_id);
  const presence = peer === undefined ? undefined : await presenceAt(peers, peer, replica);
  if (peer === undefined || presence?.is_fresh !== true) {
    const who =
      presence === undefined
        ? `site ${peer?.site_name ?? replica.source_site_id}`
        : `host ${presence.host_name}`;
    throw new Failure('unreachable', `${who}, which runs VM ${name}, does not answer`, {
      hint: `A planned migration needs it. If that site is lost: antipode recover ${name}`,
    });
  }
  if (asked.shut_down === 'power_off' || !['paused', 'pmsuspended'].includes(presence.state)) return;
  throw new Failure(
    'conflict',
    `VM ${name} is ${presence.state} at site ${peer.site_name}, and cannot shut itself down`,
    {
      hint: 'Let it go on there, or have it powered off: --power-off',
    },
  );
}

async function presenceAt(
  peers: Peers,
  peer: PeerRow,
  replica: ReplicaRecord,
): Promise<VmPresence | undefined> {
  try {
    const path = `/peer/v1/vms/${replica.vm_uuid}`;
    return await peers.call(peer, { method: 'GET', path, timeoutMs: PRESENCE_TIMEOUT_MS }, VmPresence);
  } catch (error) {
    const failure = failureIn(error);
    if (failure === undefined) throw error;
    if (failure.retry === 'reconnect') return undefined;
    if (failure.code !== 'not_found') throw error;
    throw new Failure('not_found', `site ${peer.site_name} has no VM ${replica.vm_name}`, {
      cause: error,
      hint: `Bring up what is here: antipode recover ${replica.vm_name}`,
    });
  }
}
