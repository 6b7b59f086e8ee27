import assert from 'node:assert/strict';
import { test } from 'node:test';
import { judge } from './judge.ts';
import { predictRpo, predictRto } from './predict.ts';
import type { HostSituation, Situation, VmSituation } from './situation.ts';

const GIB = 1024 ** 3;
const NOW_MS = 1_000_000_000;
const YEAR_MS = 365 * 86_400_000;
const HARDWARE = {
  arch: 'x86_64',
  machine: 'pc-q35-7.2',
  cpu_mode: 'custom',
  cpu_model: 'Haswell',
  firmware: 'efi',
  is_secure_boot: true,
  has_tpm: true,
} as const;

function vmOf(name: string, change: Partial<VmSituation> = {}): VmSituation {
  return {
    uuid: `uuid-${name}`,
    name,
    priority: 3,
    starts: true,
    replicaId: `replica-${name}`,
    replicaState: 'active',
    rpoMs: 5000,
    replicaRefusal: null,
    hostId: 'host-1',
    hostRefusal: null,
    serverId: 'server-1',
    points: [{ momentMs: NOW_MS - 2000, acknowledgedMs: NOW_MS - 1500 }],
    storedBytes: GIB,
    memoryBytes: GIB,
    hardware: HARDWARE,
    addresses: [],
    startsMs: [1000],
    proven: { job_id: 'job-1', at_ms: NOW_MS - 1000, rpo_ms: null, rto_ms: 1000 },
    leftOver: [],
    ...change,
  };
}

function hostOf(change: Partial<HostSituation> = {}): HostSituation {
  return {
    id: 'host-1',
    name: 'east-host',
    isFresh: true,
    memoryBytes: 8 * GIB,
    storageFreeBytes: 100 * GIB,
    storagePath: '/disks',
    isHookWorking: true,
    capabilities: {
      arch: 'x86_64',
      machines: ['pc-q35-7.2', 'q35'],
      cpu_models: ['Haswell', 'qemu64'],
      has_efi: true,
      has_secure_boot: true,
      has_tpm: true,
    },
    vms: [],
    certificateExpiresMs: NOW_MS + YEAR_MS,
    ...change,
  };
}

function situation(change: Partial<Situation> = {}): Situation {
  return {
    nowMs: NOW_MS,
    plan: { id: 'plan-1', name: 'all' },
    problems: [],
    provenForMs: 30 * 86_400_000,
    suspend: [],
    vms: [vmOf('web')],
    hosts: [hostOf()],
    servers: [
      {
        id: 'server-1',
        name: 'east-server',
        isFresh: true,
        freeBytes: 100 * GIB,
        certificateExpiresMs: NOW_MS + YEAR_MS,
      },
    ],
    sites: [{ id: 'site-west', name: 'west', isReachable: true, authorityExpiresMs: NOW_MS + YEAR_MS }],
    ...change,
  };
}

function found(change: Partial<Situation>): string[] {
  return judge(situation(change)).map(({ code, severity }) => `${severity} ${code}`);
}

const capabilities = hostOf().capabilities!;
const holder = { uuid: 'uuid-other', name: 'other', isUp: true, memoryBytes: GIB, addresses: ['10.2.0.5'] };

test('a plan with nothing in its way is told of nothing', () => {
  assert.deepEqual(judge(situation()), []);
});

const CASES: Record<string, [Partial<Situation>, string[]]> = {
  'a problem of its documents': [
    {
      problems: [
        { severity: 'blocks_runs', code: 'conflict', message: 'no network', hint: null, at: '/plan' },
      ],
    },
    ['error site_lacks'],
  ],
  'a replica that cannot be recovered from': [
    { vms: [vmOf('web', { replicaRefusal: { code: 'not_found', message: 'no point', hint: null } })] },
    ['error no_replica'],
  ],
  'a VM that runs here already': [{ vms: [vmOf('web', { replicaState: 'recovered' })] }, ['error recovered']],
  'a VM that is not protected any more': [
    { vms: [vmOf('web', { replicaState: 'kept' })] },
    ['warning not_protected'],
  ],
  'a point that is too old': [{ vms: [vmOf('web', { rpoMs: 1999 })] }, ['warning rpo_violated']],
  'no host': [
    { vms: [vmOf('web', { hostId: null, hostRefusal: { code: 'unreachable', message: 'no', hint: null } })] },
    ['error no_host'],
  ],
  'more memory than the host has': [{ vms: [vmOf('web', { memoryBytes: 9 * GIB })] }, ['error memory_short']],
  'nearly all memory that the host has, with its own VMs': [
    {
      vms: [vmOf('web', { memoryBytes: 6.5 * GIB })],
      hosts: [hostOf({ vms: [holder] })],
    },
    ['warning memory_short'],
  ],
  'a VM that stays off, however much memory it has': [
    { vms: [vmOf('web', { memoryBytes: 9 * GIB, starts: false })] },
    [],
  ],
  'no space for the disks': [{ hosts: [hostOf({ storageFreeBytes: GIB })] }, ['error space_short']],
  'a VM of its name': [{ hosts: [hostOf({ vms: [{ ...holder, name: 'web' }] })] }, ['error name_taken']],
  'another copy of it': [
    { hosts: [hostOf({ vms: [{ ...holder, uuid: 'uuid-web' }] })] },
    ['error uuid_taken'],
  ],
  'an address that somebody has': [
    { vms: [vmOf('web', { addresses: ['10.2.0.5/24'] })], hosts: [hostOf({ vms: [holder] })] },
    ['error address_taken'],
  ],
  'an address that is given twice': [
    { vms: [vmOf('web', { addresses: ['10.2.0.6/24'] }), vmOf('db', { addresses: ['10.2.0.6/16'] })] },
    ['error address_taken'],
  ],
  'another architecture': [
    { hosts: [hostOf({ capabilities: { ...capabilities, arch: 'aarch64' } })] },
    ['error arch_missing'],
  ],
  'a machine type that the host has not': [
    { hosts: [hostOf({ capabilities: { ...capabilities, machines: ['q35'] } })] },
    ['error machine_missing'],
  ],
  'a processor that the host has not': [
    { hosts: [hostOf({ capabilities: { ...capabilities, cpu_models: ['qemu64'] } })] },
    ['error cpu_missing'],
  ],
  'no firmware for UEFI': [
    { hosts: [hostOf({ capabilities: { ...capabilities, has_efi: false } })] },
    ['error firmware_missing'],
  ],
  'no firmware for a secure boot': [
    { hosts: [hostOf({ capabilities: { ...capabilities, has_secure_boot: false } })] },
    ['error firmware_missing'],
  ],
  'no TPM': [
    { hosts: [hostOf({ capabilities: { ...capabilities, has_tpm: false } })] },
    ['error tpm_missing'],
  ],
  'a definition that nobody has told of': [
    { vms: [vmOf('web', { hardware: null })] },
    ['info hardware_unknown'],
  ],
  'a certificate that ends, and one that has': [
    {
      hosts: [hostOf({ certificateExpiresMs: NOW_MS + 86_400_000 })],
      sites: [{ id: 'site-west', name: 'west', isReachable: true, authorityExpiresMs: NOW_MS }],
    },
    ['error certificate_ends', 'warning certificate_ends'],
  ],
  'a hook that does not work': [{ hosts: [hostOf({ isHookWorking: false })] }, ['warning hook_idle']],
  'a protected site that is silent': [
    { sites: [{ id: 'w', name: 'west', isReachable: false, authorityExpiresMs: NOW_MS + YEAR_MS }] },
    ['info site_silent'],
  ],
  'no test for long': [{ vms: [vmOf('web', { proven: null })] }, ['warning unproven']],
};

for (const [what, [change, codes]] of Object.entries(CASES)) {
  test(`readiness says of ${what}: ${codes.join(', ') || 'nothing'}`, () => {
    assert.deepEqual(found(change), codes);
  });
}

test('what a disaster would lose is the greatest age right before a point was acknowledged, or the age now', () => {
  const points = [
    { momentMs: 0, acknowledgedMs: 500 },
    { momentMs: 5000, acknowledgedMs: 9000 },
    { momentMs: 10_000, acknowledgedMs: 10_500 },
  ];
  assert.equal(predictRpo(points, 11_000), 9000);
  assert.equal(predictRpo(points, 40_000), 30_000);
  assert.equal(predictRpo([], 1), null);
});

test('what a run would take: the slowest of each priority, one after the other; unknown while a VM was never tested', () => {
  const vms = [
    vmOf('db', { priority: 1, startsMs: [2000, 3000] }),
    vmOf('web', { startsMs: [1000] }),
    vmOf('app', { startsMs: [1500] }),
    vmOf('off', { starts: false, startsMs: [] }),
  ];
  assert.equal(predictRto(vms), 4500);
  assert.equal(predictRto([...vms, vmOf('new', { startsMs: [] })]), null);
});
