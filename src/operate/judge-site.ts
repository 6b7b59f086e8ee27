/** What the facts of a replication server's store and of a manager mean. Pure. */
import { Verdict, type Finding, type Gathered } from './finding.ts';
import { judgeEnd } from './judge-shared.ts';

export type StoreFacts = {
  fileSystem: string;
  syncMs: number;
  isSparse: boolean;
  punchesHoles: boolean | undefined;
  writesDirectly: boolean;
};

const SYNC_SLOW_MS = 500;

export function judgeStore(path: string, facts: Gathered<StoreFacts>): Finding[] {
  const verdict = new Verdict('store', 'A recovery point is acknowledged once it survives a loss of power.');
  if ('failure' in facts) {
    return [verdict.bad(`${path}: ${facts.failure}`, `mkdir -p ${path}; it has to be writable and to sync`)];
  }
  const { fileSystem, isSparse, punchesHoles, syncMs, writesDirectly } = facts.value;
  const on = `${path} on ${fileSystem}`;
  const sparse = new Verdict(
    'sparse files',
    'Base images are as long as the disks; only what was written takes space.',
  );
  const direct = new Verdict(
    'direct writes',
    'Long writes past the page cache save processor time and memory.',
  );
  return [
    syncMs > SYNC_SLOW_MS
      ? verdict.warning(
          `${on}: a write took ${Math.round(syncMs)} ms to be durable`,
          'put it on faster disks',
        )
      : verdict.good(`${on}: a write is durable after ${Math.round(syncMs)} ms`),
    isSparse && punchesHoles !== false
      ? sparse.good(
          punchesHoles === undefined ? 'work; holes were not tried: no fallocate here' : 'work, and holes',
        )
      : sparse.bad(
          `${on} ${isSparse ? 'punches no holes' : 'has no sparse files'}`,
          `use XFS or ext4 for ${path}`,
        ),
    writesDirectly
      ? direct.good('work')
      : direct.warning(`${on} refuses them`, `nothing has to be done; XFS and ext4 have them`),
  ];
}

export type DatabaseFacts = {
  kind: string;
  /** Undefined: there is none yet. */
  migrations: readonly string[] | undefined;
  known: readonly string[];
  /** Of the last backup; undefined: there is none. */
  backupMs: number | undefined;
  nowMs: number;
};

const BACKUP_OLD_MS = 86_400_000;

export function judgeDatabase(facts: Gathered<DatabaseFacts>): Finding[] {
  const verdict = new Verdict(
    'database',
    'The manager keeps there what is protected, by which plans, and what happened.',
  );
  if ('failure' in facts) {
    return [
      verdict.bad(
        facts.failure,
        'PostgreSQL: systemctl status postgresql, and psql with the "database_url"; SQLite: ls -l its file',
      ),
    ];
  }
  const { kind, known, migrations } = facts.value;
  if (migrations === undefined)
    return [verdict.good(`${kind}: not made yet; the manager makes it at its first start`)];
  const newer = migrations.filter((name) => !known.includes(name));
  if (newer.length > 0) {
    return [
      verdict.bad(
        `${kind}: written by a newer manager (${newer.join(', ')})`,
        'install the newer version again, or restore a backup from before it: antipode restore --help',
      ),
    ];
  }
  const missing = known.filter((name) => !migrations.includes(name));
  if (missing.length > 0) {
    return [
      verdict.warning(`${kind}: ${missing.join(', ')} still to come`, 'systemctl restart antipode-manager'),
    ];
  }
  const good = verdict.good(`${kind}: answers, with the tables of this version (${known.at(-1)})`);
  return [good, judgeBackup(facts.value)];
}

function judgeBackup({ backupMs, nowMs }: DatabaseFacts): Finding {
  const verdict = new Verdict(
    'backup',
    'Users, plans, history and the authority of the site are nowhere else.',
  );
  const fix = 'antipode backup --out FILE --passphrase-file FILE, every hour: docs/operate/backup.md';
  if (backupMs === undefined) return verdict.warning('none was ever made', fix);
  const when = `the last one was made at ${new Date(backupMs).toISOString()}`;
  return nowMs - backupMs > BACKUP_OLD_MS ? verdict.warning(when, fix) : verdict.good(when);
}

export type AuthorityFacts =
  | { keyMode: number; hasKey: boolean; endsMs: number; managerEndsMs: number | undefined; nowMs: number }
  | undefined;

export function judgeAuthority(directory: string, facts: Gathered<AuthorityFacts>): Finding[] {
  const verdict = new Verdict(
    'certificate authority',
    'Whoever has its key speaks for the site; without it nobody does.',
  );
  if ('failure' in facts)
    return [verdict.bad(facts.failure, 'restore it from a backup: antipode restore --help')];
  if (facts.value === undefined)
    return [verdict.good('not made yet; the manager makes it at its first start')];
  const { endsMs, hasKey, keyMode, managerEndsMs, nowMs } = facts.value;
  if (!hasKey)
    return [verdict.bad(`${directory}/ca.key.pem does not belong to ca.pem`, 'restore both from a backup')];
  if ((keyMode & 0o077) !== 0) {
    return [verdict.bad(`others may read ${directory}/ca.key.pem`, `chmod 600 ${directory}/ca.key.pem`)];
  }
  const found = [
    judgeEnd(verdict, { what: 'it', expiresMs: endsMs, nowMs }, 'see docs/operate/certificate-rotation.md'),
  ];
  if (managerEndsMs !== undefined) {
    const own = new Verdict("manager's certificate", 'Programs and other sites know the manager by it.');
    const what = { what: 'it', expiresMs: managerEndsMs, nowMs };
    found.push(judgeEnd(own, what, 'systemctl restart antipode-manager: it renews it'));
  }
  return found;
}

/** Alarms that stand, as the manager's API tells them. */
export type StandingAlarm = { severity: string; message: string; hint: string | null };

export function judgeAlarmsOfSite(facts: Gathered<readonly StandingAlarm[]>): Finding[] {
  const verdict = new Verdict('alarms', 'What the running manager sees of the whole site.');
  if ('failure' in facts) {
    return [verdict.warning(`not asked: ${facts.failure}`, 'systemctl start antipode-manager')];
  }
  if (facts.value.length === 0) return [verdict.good('none stands')];
  return facts.value.map(({ severity, message, hint }) =>
    severity === 'critical'
      ? verdict.bad(message, hint ?? 'antipode alarms')
      : verdict.warning(message, hint ?? 'antipode alarms'),
  );
}
