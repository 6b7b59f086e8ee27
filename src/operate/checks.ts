/** The checks for what is configured here; a machine without any configuration is looked at as a host. */
import type { AgentConfig } from '#/agent/agent-config.ts';
import { ownVersion } from '#/lib/version.ts';
import type { ManagerConfig } from '#/manager/manager-config.ts';
import type { ServerConfig } from '#/replication-server/server-config.ts';
import type { Configured } from './configured.ts';
import { check, type Check, type Finding } from './finding.ts';
import {
  gatherAppArmor,
  gatherHook,
  gatherKvm,
  gatherLibvirt,
  gatherLibvirtdLimits,
  gatherTool,
} from './gather-host.ts';
import {
  gatherAlarms,
  gatherAuthority,
  gatherDatabase,
  gatherPeers,
  type PeerReach,
} from './gather-manager.ts';
import {
  authorityOf,
  gatherClock,
  gatherMembership,
  gatherPort,
  gatherReach,
  gatherSpace,
} from './gather-shared.ts';
import { gatherStore } from './gather-store.ts';
import {
  judgeAppArmor,
  judgeHook,
  judgeKvm,
  judgeLibvirt,
  judgeLibvirtdLimits,
  judgeTool,
  type Tool,
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

const TOOLS: readonly Tool[] = [
  {
    name: 'qemu-img',
    package: 'qemu-utils',
    isNeeded: true,
    why: 'Overlays of recovered VMs are made with it.',
  },
  { name: 'qemu-nbd', package: 'qemu-utils', isNeeded: true, why: 'VMs that are off are read through it.' },
  { name: 'ip', package: 'iproute2', isNeeded: true, why: 'Networks of tests are looked into with it.' },
  {
    name: 'guestfish',
    package: '--no-install-recommends guestfish libguestfs-xfs',
    isNeeded: false,
    why: 'Only plans with customize_by: disk need it, on hosts that recover.',
  },
];
const SCRATCH_WHY =
  'What a guest overwrites during a cycle is kept there; when it is full the cycle is given up.';
const DISKS_WHY = 'Disks of recovered VMs are made there.';
const DATA_WHY = 'Without room there a program cannot keep its orders and keys.';

/** A host before anything is configured: what the agent would look for, where it would. */
const BARE: Pick<
  AgentConfig,
  'hookDirectory' | 'libvirtSocket' | 'runDirectory' | 'scratchDirectory' | 'storageDirectory'
> = {
  hookDirectory: '/etc/libvirt/hooks',
  libvirtSocket: '/run/libvirt/libvirt-sock',
  runDirectory: '/run/antipode',
  scratchDirectory: '/var/lib/antipode/scratch',
  storageDirectory: '/var/lib/libvirt/images',
};

export function checksOf(configured: Configured): Check[] {
  const { agent, files, manager, server } = configured;
  return [
    ...files.map(({ path, facts }) =>
      check(
        `configuration ${path}`,
        async () => facts,
        (gathered) => judgeConfiguration(path, 'value' in gathered ? gathered.value : gathered),
      ),
    ),
    check('clock', gatherClock, judgeClock),
    ...(agent === undefined ? [] : agentChecks(agent)),
    ...(agent !== undefined || files.length === 0 ? hostChecks(agent ?? BARE, agent !== undefined) : []),
    ...(server === undefined ? [] : serverChecks(server)),
    ...(manager === undefined ? [] : managerChecks(manager)),
  ];
}

function hostChecks(config: typeof BARE, isConfigured: boolean): Check[] {
  const { hookDirectory, libvirtSocket, runDirectory, scratchDirectory, storageDirectory } = config;
  return [
    check(
      'libvirt',
      (signal) => gatherLibvirt(libvirtSocket, signal),
      (facts) => judgeLibvirt(libvirtSocket, facts),
    ),
    ...TOOLS.map((tool) =>
      check(
        tool.name,
        (signal) => gatherTool(tool.name, signal),
        (facts) => judgeTool(tool, facts),
      ),
    ),
    check('KVM', gatherKvm, judgeKvm),
    check('AppArmor', gatherAppArmor, (facts) => judgeAppArmor([runDirectory, scratchDirectory], facts)),
    check('limits of libvirtd', gatherLibvirtdLimits, judgeLibvirtdLimits),
    check(
      'start hook',
      () => gatherHook(hookDirectory),
      (facts) => judgeHook(isConfigured, facts),
    ),
    spaceCheck('scratch', SCRATCH_WHY, scratchDirectory),
    spaceCheck('recovered disks', DISKS_WHY, storageDirectory),
  ];
}

function agentChecks(config: AgentConfig): Check[] {
  return memberChecks(config, 'antipode-agent');
}

function serverChecks(config: ServerConfig): Check[] {
  const { listen, storeDirectory } = config;
  const why = 'Replicas are kept there; when it is full, recovery points are refused.';
  return [
    ...memberChecks(config, 'antipode-replication-server'),
    check(
      'store',
      (signal) => gatherStore(storeDirectory, signal),
      (facts) => judgeStore(storeDirectory, facts),
    ),
    spaceCheck('replicas', why, storeDirectory),
    portCheck(listen, 'antipode-replication-server'),
  ];
}

function memberChecks(config: AgentConfig | ServerConfig, unit: string): Check[] {
  const { dataDirectory, joinTokenFile, managerUrl } = config;
  const address = `${managerUrl.host}:${managerUrl.port}`;
  return [
    check(
      `membership of ${unit}`,
      () => gatherMembership(dataDirectory, joinTokenFile),
      (facts) => judgeMembership(unit, facts),
    ),
    check(
      `manager of ${unit}`,
      async (signal) => gatherReach(managerUrl, { caPem: await authorityOf(dataDirectory) }, signal),
      (facts) => judgeReach(`manager of ${unit}`, address, facts),
    ),
    spaceCheck(`data of ${unit}`, DATA_WHY, dataDirectory),
  ];
}

function managerChecks(config: ManagerConfig): Check[] {
  const { dataDirectory, listen, socketPath } = config;
  return [
    check('database', () => gatherDatabase(config), judgeDatabase),
    check(
      'certificate authority',
      () => gatherAuthority(dataDirectory),
      (facts) => judgeAuthority(dataDirectory, facts),
    ),
    spaceCheck('data of antipode-manager', DATA_WHY, dataDirectory),
    portCheck(listen, 'antipode-manager'),
    check('alarms', (signal) => gatherAlarms(socketPath, signal), judgeAlarmsOfSite),
    check(
      'paired sites',
      (signal) => gatherPeers(config, signal),
      // Of a database that cannot be read its own check tells.
      (facts) => ('failure' in facts ? [] : facts.value.flatMap(judgePeer)),
    ),
  ];
}

function judgePeer({ address, facts, name }: PeerReach): Finding[] {
  return judgeReach(name, address, facts, ownVersion());
}

function spaceCheck(what: string, why: string, path: string): Check {
  return check(
    `space for ${what}`,
    () => gatherSpace(path),
    (facts) => judgeSpace(what, why, facts),
  );
}

function portCheck(listen: { host: string; port: number }, unit: string): Check {
  const address = `${listen.host}:${listen.port}`;
  return check(
    `port ${address}`,
    (signal) => gatherPort(listen, signal),
    (facts) => judgePort({ address, unit }, facts),
  );
}
