/** What the facts of a host mean for protecting its VMs and for recovering VMs to it. Pure. */
import { Verdict, type Finding, type Gathered } from './finding.ts';

export type VersionFact = { major: number; minor: number; release: number };
export type LibvirtFacts = { libvirt: VersionFact; qemu: VersionFact };

/** The oldest that Antipode is tested with (README.md). */
const LIBVIRT_MIN: VersionFact = { major: 9, minor: 0, release: 0 };
const QEMU_MIN: VersionFact = { major: 7, minor: 2, release: 0 };

export function judgeLibvirt(socket: string, facts: Gathered<LibvirtFacts>): Finding[] {
  const verdict = new Verdict(
    'libvirt',
    'The agent freezes and reads VMs through libvirt, and defines them.',
  );
  if ('failure' in facts) {
    return [verdict.bad(`${socket}: ${facts.failure}`, fixOfSocket(socket, facts.failure))];
  }
  const { libvirt, qemu } = facts.value;
  const qemuVerdict = new Verdict('QEMU', 'Changed blocks are tracked in QEMU, and read over NBD from it.');
  return [
    isOlder(libvirt, LIBVIRT_MIN)
      ? verdict.bad(
          `libvirt ${words(libvirt)}, older than ${words(LIBVIRT_MIN)}`,
          'upgrade the system: Debian 12 has libvirt 9.0',
        )
      : verdict.good(`libvirt ${words(libvirt)} answers on ${socket}`),
    isOlder(qemu, QEMU_MIN)
      ? qemuVerdict.bad(
          `QEMU ${words(qemu)}, older than ${words(QEMU_MIN)}`,
          'upgrade the system: Debian 12 has QEMU 7.2; then restart the VMs',
        )
      : qemuVerdict.good(`QEMU ${words(qemu)}`),
  ];
}

function fixOfSocket(socket: string, failure: string): string {
  if (failure.includes('EACCES') || failure.includes('EPERM')) return 'run it as root: sudo antipode doctor';
  if (failure.includes('ENOENT')) {
    return (
      'apt-get install libvirt-daemon-system && systemctl enable --now libvirtd; ' +
      `if its socket is elsewhere, set "libvirt_socket" (now ${socket}) in agent.json`
    );
  }
  return 'systemctl restart libvirtd (VMs go on), then: journalctl -u libvirtd -n 50';
}

export type ToolFacts = { version: string | undefined };

/** `package`: Debian's. `isNeeded` false: only some plans use it. */
export type Tool = { name: string; package: string; isNeeded: boolean; why: string };

export function judgeTool(tool: Tool, facts: Gathered<ToolFacts>): Finding[] {
  const verdict = new Verdict(tool.name, tool.why);
  const fix = `apt-get install ${tool.package}`;
  const say = (saw: string): Finding => (tool.isNeeded ? verdict.bad(saw, fix) : verdict.warning(saw, fix));
  if ('failure' in facts) return [say(`${tool.name} fails: ${facts.failure}`)];
  if (facts.value.version === undefined) return [say(`${tool.name} is not installed`)];
  return [verdict.good(facts.value.version)];
}

export type KvmFacts = {
  /** The processor says that it can virtualize. */
  hasExtension: boolean;
  /** Of /dev/kvm; undefined when there is none. */
  device: { mode: number; group: string } | undefined;
  /** As whom libvirt runs QEMU, and the groups of that user. */
  user: string;
  groups: readonly string[];
};

export function judgeKvm(facts: Gathered<KvmFacts>): Finding[] {
  const verdict = new Verdict(
    'KVM',
    'Without it VMs run in emulation, many times slower, if they start at all.',
  );
  if ('failure' in facts) return [verdict.warning(facts.failure, 'ls -l /dev/kvm')];
  const { hasExtension, device, user, groups } = facts.value;
  if (device === undefined) {
    return [
      verdict.warning(
        `there is no /dev/kvm${hasExtension ? '' : ', and the processor shows no vmx or svm'}`,
        hasExtension
          ? 'modprobe kvm_intel || modprobe kvm_amd'
          : "turn virtualization on in the firmware's setup, or nested virtualization where this machine is a VM",
      ),
    ];
  }
  const mayAll = (device.mode & 0o006) === 0o006;
  const mayGroup = (device.mode & 0o060) === 0o060 && groups.includes(device.group);
  if (user !== 'root' && !mayAll && !mayGroup) {
    return [
      verdict.bad(
        `/dev/kvm is for the group ${device.group}, and ${user}, as whom QEMU runs, is not in it`,
        `usermod -a -G ${device.group} ${user} && systemctl restart libvirtd`,
      ),
    ];
  }
  return [verdict.good(`/dev/kvm is there, and ${user}, as whom QEMU runs, may use it`)];
}

export type HookFacts = { path: string; mode: number | undefined; isOurs: boolean };

/** `isMember`: the agent has joined, so it has had time to put the hook in its place. */
export function judgeHook(isMember: boolean, facts: Gathered<HookFacts>): Finding[] {
  const verdict = new Verdict(
    'start hook',
    'It refuses to start an old copy of a VM that runs at another site.',
  );
  if ('failure' in facts) return [verdict.bad(facts.failure, 'systemctl restart antipode-agent')];
  const { path, mode, isOurs } = facts.value;
  if (mode === undefined) {
    return [
      isMember
        ? verdict.bad(`${path} is missing`, 'systemctl restart antipode-agent: it puts it there')
        : verdict.good(`${path} is not there yet: the agent puts it there when it has joined`),
    ];
  }
  if (!isOurs) {
    return [
      verdict.bad(`${path} is not ours`, `mv ${path} ${path}.other && systemctl restart antipode-agent`),
    ];
  }
  if ((mode & 0o111) === 0) return [verdict.bad(`${path} cannot be executed`, `chmod 755 ${path}`)];
  return [verdict.good(`${path} is in its place; that libvirt runs it shows: antipode hosts`)];
}

export type AppArmorFacts = {
  isEnabled: boolean;
  /** security_driver of qemu.conf; undefined: libvirt's choice. */
  driver: string | undefined;
  /** What the administrator allows QEMU beyond its profile. */
  rules: string;
};

export function judgeAppArmor(directories: readonly string[], facts: Gathered<AppArmorFacts>): Finding[] {
  const verdict = new Verdict('AppArmor', 'A profile may keep QEMU from our sockets and from scratch files.');
  const file = '/etc/apparmor.d/local/abstractions/libvirt-qemu';
  if ('failure' in facts) return [verdict.warning(facts.failure, `look at ${file}`)];
  const { isEnabled, driver, rules } = facts.value;
  if (!isEnabled) return [verdict.good('it is not enabled here')];
  if (driver === 'none') return [verdict.good('libvirt does not confine QEMU: security_driver is "none"')];
  const missing = directories.filter((directory) => !rules.includes(`${directory}/`));
  if (missing.length === 0) return [verdict.good(`QEMU is allowed ${directories.join(' and ')}`)];
  const lines = missing.map((directory) => `${directory}/** rwk,`).join("' '");
  return [
    verdict.warning(
      `it confines QEMU, and no rule names ${missing.join(' and ')}`,
      `printf '%s\\n' '${lines}' >> ${file} && systemctl reload apparmor`,
    ),
  ];
}

export type LibvirtdLimits = {
  /** Of libvirtd.conf; undefined: libvirt's default, 5. */
  clientRequests: number | undefined;
  /** Open files that the daemon may have; undefined when no daemon was found. */
  openFiles: number | undefined;
};

const CLIENT_REQUESTS_MIN = 5;
const OPEN_FILES_MIN = 4096;

export function judgeLibvirtdLimits(facts: Gathered<LibvirtdLimits>): Finding[] {
  const verdict = new Verdict(
    'limits of libvirtd',
    'With many VMs a daemon without room makes calls wait or fail.',
  );
  if ('failure' in facts) return [verdict.warning(facts.failure, 'look at /etc/libvirt/libvirtd.conf')];
  const { clientRequests, openFiles } = facts.value;
  if (clientRequests !== undefined && clientRequests < CLIENT_REQUESTS_MIN) {
    return [
      verdict.warning(
        `max_client_requests is ${clientRequests}`,
        'set max_client_requests = 5 in /etc/libvirt/libvirtd.conf, then: systemctl restart libvirtd',
      ),
    ];
  }
  if (openFiles !== undefined && openFiles < OPEN_FILES_MIN) {
    return [
      verdict.warning(
        `it may open ${openFiles} files`,
        'systemctl edit libvirtd: [Service] LimitNOFILE=8192, then: systemctl restart libvirtd',
      ),
    ];
  }
  const files = openFiles === undefined ? 'no daemon of its own runs' : `it may open ${openFiles} files`;
  return [verdict.good(`${files}; requests of a client at a time: ${clientRequests ?? CLIENT_REQUESTS_MIN}`)];
}

function isOlder(one: VersionFact, other: VersionFact): boolean {
  return (
    one.major * 1e6 + one.minor * 1e3 + one.release < other.major * 1e6 + other.minor * 1e3 + other.release
  );
}

function words({ major, minor, release }: VersionFact): string {
  return `${major}.${minor}.${release}`;
}
