/**
 * What a restored database says of things that went on after its backup was made is made harmless: nothing that was
 * under way then is carried on now, and the site waits for `antipode rebuild` (docs/operate/backup.md).
 *
 * Invariant: by a restored database alone no VM is started and no epoch is told.
 */
import { addEvent } from '#/manager/store/event-store.ts';
import type { Database } from '#/manager/store/database.ts';
import { writeRebuild } from '#/manager/rebuild/rebuild-state.ts';
import { writeSetting } from '#/manager/store/settings-store.ts';
import type { BackupHead } from './backup-format.ts';

export async function settleRestored(
  at: Database,
  { head, nowMs }: { head: BackupHead; nowMs: number },
): Promise<void> {
  const when = new Date(head.created_ms).toISOString();
  const failure = JSON.stringify({
    code: 'cancelled',
    message: `it was under way in a backup of ${when}, which was restored: what came of it is not known here`,
    hint: 'See what runs with: antipode vms, and antipode fence',
  });
  const ended = { state: 'failed', failure, updated_ms: nowMs };
  const unfinished = ['running', 'cleaning'];
  await at.updateTable('jobs').set(ended).where('state', 'in', unfinished).execute();
  await at
    .updateTable('runs')
    .set({ ...ended, ended_ms: nowMs, lease_holder: null, lease_until_ms: 0 })
    .where('state', 'in', unfinished)
    .execute();
  const task = at.updateTable('tasks').set({ state: 'withdrawn' });
  await task.where('state', 'in', ['ordered', 'running']).execute();
  await at.deleteFrom('alarm_notices').execute();
  await writeSetting(at, 'restored_backup', head.salt);
  await writeRebuild(at, { state: 'waiting', members: [], isRestored: true });
  await addEvent(at, {
    at_ms: nowMs,
    kind: 'site.restored',
    severity: 'warning',
    subject_kind: 'site',
    subject_id: head.site_id,
    message: `the database was restored from a backup of ${when}; it waits for: antipode rebuild`,
    reporter: 'restore',
    reporter_event_id: `${head.salt} ${nowMs}`,
  });
}
