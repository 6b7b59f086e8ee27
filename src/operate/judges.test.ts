/** Every sentence of the doctor, by the facts that it is made of. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Finding, FindingState, Gathered } from './finding.ts';
import {
  judgeAppArmor,
  judgeHook,
  judgeKvm,
  judgeLibvirt,
  judgeLibvirtdLimits,
  judgeTool,
  type KvmFacts,
} from './judge-host.ts';
import {
  judgeClock,
  judgeConfiguration,
  judgeMembership,
  judgePort,
  judgeReach,
  judgeSpace,
} from './judge-shared.ts';
import { judgeAlarmsOfSite, judgeAuthority, judgeDatabase, judgeStore } from './judge-site.ts';

const DAY_MS = 86_400_000;
const GIB = 1024 ** 3;
const NOW = 1_795_377_600_000;
const value = <T>(facts: T): Gathered<T> => ({ value: facts });
const failed = { failure: 'connect ENOENT' };

const version = (text: string) => {
  const [major = 0, minor = 0, release = 0] = text.split('.').map(Number);
  return { major, minor, release };
};
const libvirt = (own: string, qemu: string) =>
  judgeLibvirt('/run/s', value({ libvirt: version(own), qemu: version(qemu) }));
const KVM: KvmFacts = {
  hasExtension: true,
  device: { mode: 0o660, group: 'kvm' },
  user: 'q',
  groups: ['kvm'],
};
const kvm = (change: Partial<KvmFacts>) => judgeKvm(value({ ...KVM, ...change }));
const TOOL = { name: 'qemu-img', package: 'qemu-utils', isNeeded: true, why: 'It is needed.' };
const SPACE = { path: '/x', freeBytes: 100 * GIB, inodes: 1000, freeInodes: 900 };
const space = (change: Partial<typeof SPACE>) => judgeSpace('x', 'It is.', value({ ...SPACE, ...change }));
const STORE = { fileSystem: 'xfs', syncMs: 9, isSparse: true, punchesHoles: true, writesDirectly: true };
const store = (change: Partial<typeof STORE>) => judgeStore('/s', value({ ...STORE, ...change }));
const AUTHORITY = {
  keyMode: 0o600,
  hasKey: true,
  endsMs: NOW + 900 * DAY_MS,
  managerEndsMs: undefined,
  nowMs: NOW,
};
const authority = (change: Partial<Omit<typeof AUTHORITY, 'managerEndsMs'> & { managerEndsMs: number }>) =>
  judgeAuthority('/d', value({ ...AUTHORITY, ...change }));
const known = ['0001', '0002'];
const BACKUP = { backupMs: NOW, nowMs: NOW + 1000 };
const backup = (backupMs: number | undefined) =>
  judgeDatabase(value({ kind: 'sqlite', migrations: known, known, backupMs, nowMs: NOW }));
const apparmor = (rules: string, driver?: string, isEnabled = true) =>
  judgeAppArmor(['/run/antipode', '/scratch'], value({ isEnabled, driver, rules }));
const hook = (isMember: boolean, mode: number | undefined, isOurs = true) =>
  judgeHook(isMember, value({ path: '/h', mode, isOurs }));
const member = (expiresMs: number, hasToken = false) =>
  judgeMembership('antipode-agent', value({ expiresMs, nowMs: NOW, hasToken }));
const reach = (skewMs: number) => judgeReach('manager', 'm:7480', value({ status: 200, skewMs }));
const versions = (there: string) =>
  judgeReach('site x', 'm:7480', value({ status: 200, skewMs: 0, version: there }), '0.1.0');
const unreached = (failure: string) => judgeReach('manager', 'm:7480', { failure });
const port = (facts: 'listening' | 'free' | { refused: string }) =>
  judgePort({ address: '0.0.0.0:7480', unit: 'antipode-manager' }, value(facts));

type Row = [string, Finding[], FindingState, RegExp, RegExp | null];
const ROWS: readonly Row[] = [
  ['libvirt of the oldest version', libvirt('9.0.0', '7.2.0'), 'good', /libvirt 9\.0\.0 answers/, null],
  ['an older libvirt', libvirt('8.9.0', '7.2.0'), 'bad', /8\.9\.0, older than 9\.0\.0/, /upgrade/],
  ['an older QEMU', libvirt('9.0.0', '7.1.9'), 'bad', /QEMU 7\.1\.9/, /upgrade/],
  ['no libvirt', judgeLibvirt('/run/s', failed), 'bad', /ENOENT/, /apt-get install libvirt-daemon-system/],
  ['a socket for others', judgeLibvirt('/run/s', { failure: 'EACCES' }), 'bad', /EACCES/, /as root/],
  ['a silent libvirt', judgeLibvirt('/run/s', { failure: 'nothing' }), 'bad', /nothing/, /restart libvirtd/],
  ['a tool', judgeTool(TOOL, value({ version: 'qemu-img 7' })), 'good', /qemu-img 7/, null],
  ['no tool', judgeTool(TOOL, value({ version: undefined })), 'bad', /not installed/, /qemu-utils/],
  [
    'no tool that few need',
    judgeTool({ ...TOOL, isNeeded: false }, value({ version: undefined })),
    'warning',
    /not installed/,
    /apt-get/,
  ],
  ['KVM', kvm({}), 'good', /may use it/, null],
  ['KVM for all', kvm({ groups: [], device: { mode: 0o666, group: 'kvm' } }), 'good', /may use/, null],
  ['KVM for another group', kvm({ groups: ['video'] }), 'bad', /not in it/, /usermod -a -G kvm q/],
  ['root needs no group', kvm({ groups: [], user: 'root' }), 'good', /root/, null],
  ['no module', kvm({ device: undefined }), 'warning', /no \/dev\/kvm$/, /modprobe/],
  ['no extension', kvm({ device: undefined, hasExtension: false }), 'warning', /vmx or svm/, /firmware/],
  ['a hook', hook(true, 0o755), 'good', /in its place/, null],
  ['a hook to come', hook(false, undefined), 'good', /not there yet/, null],
  ['a hook that is gone', hook(true, undefined), 'bad', /missing/, /restart antipode-agent/],
  ['the hook of others', hook(true, 0o755, false), 'bad', /not ours/, /mv \/h/],
  ['a hook that is no program', hook(true, 0o644), 'bad', /executed/, /chmod 755/],
  ['no AppArmor', apparmor('', undefined, false), 'good', /not enabled/, null],
  ['libvirt without AppArmor', apparmor('', 'none'), 'good', /does not confine/, null],
  ['AppArmor with rules', apparmor('/run/antipode/** rw,\n/scratch/** rwk,'), 'good', /is allowed/, null],
  [
    'AppArmor with half of them',
    apparmor('/run/antipode/** rw,'),
    'warning',
    /\/scratch$/,
    /'\/scratch\/\*\* rwk,'/,
  ],
  [
    'libvirtd',
    judgeLibvirtdLimits(value({ clientRequests: undefined, openFiles: 8192 })),
    'good',
    /8192/,
    null,
  ],
  [
    'few requests',
    judgeLibvirtdLimits(value({ clientRequests: 1, openFiles: 8192 })),
    'warning',
    /is 1/,
    /= 5/,
  ],
  [
    'few files',
    judgeLibvirtdLimits(value({ clientRequests: 5, openFiles: 64 })),
    'warning',
    /64/,
    /LimitNOFILE/,
  ],
  [
    'a configuration',
    judgeConfiguration('/c', value({ mode: 0o644, holdsSecrets: false })),
    'good',
    /known/,
    null,
  ],
  [
    'an open secret',
    judgeConfiguration('/c', value({ mode: 0o644, holdsSecrets: true })),
    'warning',
    /password/,
    /600/,
  ],
  [
    'a wrong key',
    judgeConfiguration('/c', { failure: '/c: hostt: unknown key' }),
    'bad',
    /hostt/,
    /mend the key/,
  ],
  ['space', space({}), 'good', /100\.0 GiB/, null],
  ['little space', space({ freeBytes: 9 * GIB }), 'warning', /9\.0 GiB/, /df -h \/x/],
  ['no space', space({ freeBytes: GIB }), 'bad', /1\.0 GiB/, /df -h/],
  ['few inodes', space({ freeInodes: 40 }), 'warning', /40 of 1000/, /df -i/],
  ['no inodes', space({ freeInodes: 9 }), 'bad', /9 of 1000/, /df -i/],
  ['inodes without number', space({ inodes: 0, freeInodes: 0 }), 'good', /GiB/, null],
  ['no such disk', judgeSpace('x', 'It is.', failed), 'bad', /ENOENT/, /mount/],
  ['the right time', judgeClock(value({ isSynchronized: true, by: 'chronyc' })), 'good', /chronyc/, null],
  ['the wrong time', judgeClock(value({ isSynchronized: false, by: 't' })), 'bad', /not syn/, /set-ntp/],
  ['some time', judgeClock(value({ isSynchronized: undefined, by: 't' })), 'warning', /neither/, /set-ntp/],
  ['a member', member(NOW + 100 * DAY_MS), 'good', /holds until/, null],
  ['a member for days', member(NOW + 13 * DAY_MS), 'warning', /ends at/, /restart antipode-agent/],
  ['a member of before', member(NOW - 1), 'bad', /ended at/, /restart/],
  ['a token', member(0, true), 'good', /a token is there/, null],
  ['no token', member(0), 'bad', /not joined/, /antipode join-token agent/],
  ['a manager', reach(0), 'good', /answers at m:7480/, null],
  ['a site of the same version', versions('0.1.0'), 'good', /as here/, null],
  ['a site of another version', versions('0.2.0'), 'warning', /0\.2\.0 there/, /upgrade/],
  ['a slow clock', reach(-6000), 'warning', /6 s behind/, /set-ntp/],
  ['a fast clock', reach(600_000), 'bad', /600 s ahead/, /set-ntp/],
  ['no manager', unreached('ECONNREFUSED'), 'bad', /ECONN/, /systemctl start antipode-manager/],
  ['no name', unreached('getaddrinfo ENOTFOUND'), 'bad', /ENOTFOUND/, /getent hosts m$/],
  ['a stranger', unreached('unable to verify the first certificate'), 'bad', /verify/, /another site/],
  ['no way', unreached('nothing came back'), 'bad', /nothing/, /nc -vz m 7480/],
  ['a port in use', port('listening'), 'good', /listens/, null],
  ['a free port', port('free'), 'warning', /free/, /systemctl start/],
  ['no such port', port({ refused: 'EADDRNOTAVAIL' }), 'bad', /EADDR/, /"listen"/],
  ['a store', store({}), 'good', /durable after 9 ms/, null],
  ['a slow store', store({ syncMs: 900 }), 'warning', /900 ms/, /faster/],
  ['a dense store', store({ isSparse: false }), 'bad', /no sparse/, /XFS/],
  ['a store without holes', store({ punchesHoles: false }), 'bad', /punches no holes/, /XFS/],
  ['a store behind the cache', store({ writesDirectly: false }), 'warning', /refuses/, /nothing has to be/],
  ['no store', judgeStore('/s', failed), 'bad', /ENOENT/, /mkdir -p \/s/],
  [
    'a database',
    judgeDatabase(value({ ...BACKUP, kind: 'sqlite', migrations: known, known })),
    'good',
    /0002/,
    null,
  ],
  [
    'one to come',
    judgeDatabase(value({ ...BACKUP, kind: 'sqlite', migrations: undefined, known })),
    'good',
    /not made/,
    null,
  ],
  [
    'an old one',
    judgeDatabase(value({ ...BACKUP, kind: 'p', migrations: ['0001'], known })),
    'warning',
    /0002/,
    /restart/,
  ],
  [
    'a newer one',
    judgeDatabase(value({ ...BACKUP, kind: 'p', migrations: [...known, '0003'], known })),
    'bad',
    /newer manager \(0003\)/,
    /newer version/,
  ],
  ['no backup', backup(undefined), 'warning', /none was ever/, /antipode backup/],
  ['an old backup', backup(NOW - 2 * DAY_MS), 'warning', /last one/, /antipode backup/],
  ['a backup', backup(NOW - 1000), 'good', /last one/, null],
  ['a database that is away', judgeDatabase(failed), 'bad', /ENOENT/, /psql/],
  ['an authority', authority({}), 'good', /holds until/, null],
  ['one that others read', authority({ keyMode: 0o644 }), 'bad', /others may read/, /chmod 600/],
  ['the key of another', authority({ hasKey: false }), 'bad', /does not belong/, /backup/],
  ['a manager that ends', authority({ managerEndsMs: NOW + DAY_MS }), 'warning', /ends at/, /renews it/],
  ['an authority to come', judgeAuthority('/d', value(undefined)), 'good', /not made/, null],
  ['no alarm', judgeAlarmsOfSite(value([])), 'good', /none/, null],
  [
    'an alarm',
    judgeAlarmsOfSite(value([{ severity: 'critical', message: 'RPO missed', hint: null }])),
    'bad',
    /RPO missed/,
    /antipode alarms/,
  ],
  ['a manager that is off', judgeAlarmsOfSite(failed), 'warning', /not asked/, /systemctl start/],
];

for (const [name, findings, state, saw, fix] of ROWS) {
  test(`the doctor judges ${name}`, () => {
    const order = ['good', 'warning', 'bad'];
    const [worst] = findings.toSorted((one, other) => order.indexOf(other.state) - order.indexOf(one.state));
    assert(worst !== undefined);
    assert.equal(worst.state, state);
    assert.match(findings.map((finding) => finding.saw).join('\n'), saw);
    for (const finding of findings) {
      assert.match(finding.why, /^[A-Z].*\.$/, 'a whole sentence says why it matters');
      assert.equal(finding.fix === null, finding.state === 'good', 'whatever is not good can be mended');
    }
    if (fix !== null) assert.match(worst.fix ?? '', fix);
  });
}
