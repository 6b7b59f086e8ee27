/** What facts mean that all programs depend on: configuration, space, clock, certificates, ports. Pure. */
import { Verdict, type Finding, type Gathered } from './finding.ts';

const DAY_MS = 86_400_000;
const GIB = 1024 ** 3;
/** As the alarms have it (src/manager/alarms/judge-alarms.ts). */
const SPACE_BAD_BYTES = 2 * GIB;
const SPACE_WARNING_BYTES = 10 * GIB;
const INODES_BAD = 0.01;
const INODES_WARNING = 0.05;
const CERTIFICATE_WARNING_MS = 14 * DAY_MS;
/** A claim or certificate of a clock that is off by more than its backdate is not believed yet. */
const SKEW_WARNING_MS = 5000;
const SKEW_BAD_MS = 5 * 60_000;

export function judgeConfiguration(
  path: string,
  facts: Gathered<{ mode: number; holdsSecrets: boolean }>,
): Finding[] {
  const verdict = new Verdict(
    `configuration ${path}`,
    'A program does not start with a configuration it cannot read.',
  );
  if ('failure' in facts)
    return [verdict.bad(facts.failure, 'mend the key that it names: docs/operate/configuration.md')];
  const { holdsSecrets, mode } = facts.value;
  if (holdsSecrets && (mode & 0o077) !== 0) {
    return [verdict.warning('it holds a password and others may read it', `chmod 600 ${path}`)];
  }
  return [verdict.good('every key is known and readable')];
}

export type SpaceFacts = {
  /** What is there of the path. */
  path: string;
  freeBytes: number;
  /** 0 where the file system has no fixed number. */
  inodes: number;
  freeInodes: number;
};

export function judgeSpace(what: string, why: string, facts: Gathered<SpaceFacts>): Finding[] {
  const verdict = new Verdict(`space for ${what}`, why);
  if ('failure' in facts)
    return [verdict.bad(facts.failure, 'mount it, or name another directory in the configuration')];
  const { path, freeBytes, inodes, freeInodes } = facts.value;
  const free = `${(freeBytes / GIB).toFixed(1)} GiB free at ${path}`;
  const part = inodes === 0 ? 1 : freeInodes / inodes;
  const more = `make room there, or give it a file system of its own: df -h ${path}`;
  if (freeBytes < SPACE_BAD_BYTES) return [verdict.bad(free, more)];
  const count = `${freeInodes} of ${inodes} inodes free at ${path}`;
  if (part < INODES_BAD) return [verdict.bad(count, `remove small files there: df -i ${path}`)];
  if (freeBytes < SPACE_WARNING_BYTES) return [verdict.warning(free, more)];
  if (part < INODES_WARNING) return [verdict.warning(count, `remove small files there: df -i ${path}`)];
  return [verdict.good(free)];
}

/** `isSynchronized` undefined: nobody here knows. */
export function judgeClock(facts: Gathered<{ isSynchronized: boolean | undefined; by: string }>): Finding[] {
  const verdict = new Verdict('clock', 'Ages of recovery points, certificates and claims are told by it.');
  const fix = 'apt-get install systemd-timesyncd && timedatectl set-ntp true';
  if ('failure' in facts) return [verdict.warning(facts.failure, fix)];
  const { by, isSynchronized } = facts.value;
  if (isSynchronized === true) return [verdict.good(`synchronized, says ${by}`)];
  if (isSynchronized === false) return [verdict.bad(`not synchronized, says ${by}`, fix)];
  return [verdict.warning('neither timedatectl nor chronyc can tell whether it is synchronized', fix)];
}

/** Undefined when the program has not joined. */
export type MembershipFacts = { expiresMs: number; nowMs: number; hasToken: boolean } | undefined;

/** `unit`: the service that renews it. */
export function judgeMembership(unit: string, facts: Gathered<MembershipFacts>): Finding[] {
  const verdict = new Verdict(
    'membership',
    'By its certificate the manager knows the program. It renews by itself.',
  );
  if ('failure' in facts) {
    return [
      verdict.bad(facts.failure, 'restore membership.json, or remove it and join again with a new token'),
    ];
  }
  if (facts.value === undefined || (facts.value.expiresMs === 0 && !facts.value.hasToken)) {
    const kind = unit.replace('antipode-', '');
    return [
      verdict.bad(
        'it has not joined its site, and join_token_file names no file with a token',
        `at the manager: antipode join-token ${kind} ; put the token into a file and name it in "join_token_file"`,
      ),
    ];
  }
  const { expiresMs, nowMs } = facts.value;
  if (expiresMs === 0)
    return [verdict.good('not joined yet; a token is there, and is used when the program starts')];
  return [judgeEnd(verdict, { what: 'its certificate', expiresMs, nowMs }, `systemctl restart ${unit}`)];
}

export function judgeEnd(
  verdict: Verdict,
  { what, expiresMs, nowMs }: { what: string; expiresMs: number; nowMs: number },
  fix: string,
): Finding {
  const end = new Date(expiresMs).toISOString();
  if (expiresMs <= nowMs) return verdict.bad(`${what} ended at ${end}`, fix);
  if (expiresMs - nowMs < CERTIFICATE_WARNING_MS) return verdict.warning(`${what} ends at ${end}`, fix);
  return verdict.good(`${what} holds until ${end}`);
}

export type ReachFacts = {
  status: number;
  /** How far the other clock is ahead of this one, at least. */
  skewMs: number;
  /** Of the manager of another site. */
  version?: string | undefined;
};

export function judgeReach(
  what: string,
  address: string,
  facts: Gathered<ReachFacts>,
  own?: string,
): Finding[] {
  const verdict = new Verdict(
    what,
    'Without it nothing new is ordered or reported; what was ordered goes on.',
  );
  if ('failure' in facts)
    return [verdict.bad(`${address}: ${facts.failure}`, fixOfReach(address, facts.failure))];
  const { skewMs, version } = facts.value;
  const clock = new Verdict(
    `clock of ${what}`,
    'Sites and programs compare times; far apart they refuse each other.',
  );
  const saw = `${Math.round(Math.abs(skewMs) / 1000)} s ${skewMs > 0 ? 'ahead of' : 'behind'} this machine`;
  const fix = 'timedatectl set-ntp true, on the machine whose clock is wrong';
  const isFar = Math.abs(skewMs) > SKEW_WARNING_MS;
  const found = [
    verdict.good(`answers at ${address}`),
    Math.abs(skewMs) > SKEW_BAD_MS
      ? clock.bad(saw, fix)
      : isFar
        ? clock.warning(saw, fix)
        : clock.good('the same'),
  ];
  return own === undefined || version === undefined ? found : [...found, judgeVersion(what, own, version)];
}

function judgeVersion(what: string, own: string, version: string): Finding {
  const verdict = new Verdict(
    `version of ${what}`,
    'Sites of different versions may not know all of each other.',
  );
  if (own === version) return verdict.good(`${version}, as here`);
  return verdict.warning(
    `${version} there, ${own} here`,
    'upgrade the older one: apt-get install antipode-manager',
  );
}

function fixOfReach(address: string, failure: string): string {
  if (failure.includes('ECONNREFUSED'))
    return `start it there: systemctl start antipode-manager (${address})`;
  if (failure.includes('ENOTFOUND'))
    return `give the name an address: getent hosts ${address.replace(/:\d+$/, '')}`;
  if (/certificate|self.signed|verify/i.test(failure)) {
    return 'another site answers there: mend the address, or join this program to that site with a new token';
  }
  return `open the way through firewalls and routes: nc -vz ${address.replace(/:(\d+)$/, ' $1')}`;
}

export type PortFacts = 'listening' | 'free' | { refused: string };

export function judgePort(what: { address: string; unit: string }, facts: Gathered<PortFacts>): Finding[] {
  const { address, unit } = what;
  const verdict = new Verdict(`port ${address}`, 'Others reach the program there.');
  if ('failure' in facts) return [verdict.bad(facts.failure, 'mend "listen" in the configuration')];
  if (facts.value === 'listening') return [verdict.good('a program listens there')];
  if (facts.value === 'free') {
    return [verdict.warning('nothing listens there; the port is free', `systemctl start ${unit}`)];
  }
  return [
    verdict.bad(facts.value.refused, 'give "listen" an address of this machine, and a port of its own'),
  ];
}
