/** Whether there is room where a plan's VMs come up: memory, space, free names, UUIDs and addresses. Pure. */
import { ofVm, type Judge } from './finding.ts';
import type { HostSituation, Situation, VmSituation } from './situation.ts';

/** What an overlay needs to begin with (src/agent/recover-check.ts). */
const HEADROOM_BYTES = 256 * 1024 * 1024;
/** What the host itself and QEMU take is not reported: more than this in use is close. */
const MEMORY_CLOSE = 0.9;

export function judgePlaces(situation: Situation, add: Judge): void {
  for (const host of situation.hosts) {
    const own = situation.vms.filter(({ hostId }) => hostId === host.id);
    if (own.length === 0) continue;
    judgeMemory(host, own, situation.suspend, add);
    judgeSpace(host, own, add);
  }
  for (const vm of situation.vms) judgeNames(vm, situation.hosts, add);
  judgeAddresses(situation, add);
}

function judgeMemory(
  host: HostSituation,
  own: readonly VmSituation[],
  suspend: readonly string[],
  add: Judge,
): void {
  const isOwn = new Set(own.map(({ uuid }) => uuid));
  // A VM that is paused keeps its memory: suspending makes room for processors only.
  const running = host.vms.filter(({ isUp, uuid }) => isUp && !isOwn.has(uuid));
  const usedBytes = sum(running.map(({ memoryBytes }) => memoryBytes));
  const wantedBytes = sum(own.filter(({ starts }) => starts).map(({ memoryBytes }) => memoryBytes ?? 0));
  const allBytes = usedBytes + wantedBytes;
  if (host.memoryBytes === 0 || allBytes <= host.memoryBytes * MEMORY_CLOSE) return;
  const isShort = allBytes > host.memoryBytes;
  const hint =
    suspend.length > 0
      ? 'A suspended VM keeps its memory. Move VMs away, or add memory.'
      : 'Move VMs away, add memory, or leave VMs of the plan off.';
  add(
    { kind: 'host', id: host.id, name: host.name },
    {
      severity: isShort ? 'error' : 'warning',
      code: 'memory_short',
      text:
        `host ${host.name} has ${host.memoryBytes} bytes of memory; its running VMs have ${usedBytes}, ` +
        `and those of the plan need ${wantedBytes}`,
      hint,
    },
  );
}

function judgeSpace(host: HostSituation, own: readonly VmSituation[], add: Judge): void {
  const overlays = own.length * HEADROOM_BYTES;
  const pulled = sum(own.map(({ storedBytes }) => storedBytes)) + overlays;
  if (host.storageFreeBytes >= pulled) return;
  const isForTest = host.storageFreeBytes >= overlays;
  add(
    { kind: 'host', id: host.id, name: host.name },
    {
      severity: 'error',
      code: 'space_short',
      text:
        `host ${host.name} has ${host.storageFreeBytes} bytes free in ${host.storagePath}; ` +
        `the disks of the plan take ${pulled} once they stand alone` +
        (isForTest ? '; a test fits' : ', and a test does not fit either'),
      hint: 'Make room there, or give the agent another storage_directory.',
    },
  );
}

function judgeNames(vm: VmSituation, hosts: readonly HostSituation[], add: Judge): void {
  if (vm.replicaState === 'recovered') return;
  for (const host of hosts) {
    for (const other of host.vms) {
      const what = other.uuid === vm.uuid ? 'UUID' : 'name';
      if (other.uuid !== vm.uuid && other.name !== vm.name) continue;
      add(ofVm(vm), {
        severity: 'error',
        code: what === 'UUID' ? 'uuid_taken' : 'name_taken',
        text: `${vm.name}: host ${host.name} has a VM ${other.name} with its ${what} already`,
        hint: 'Remove or rename that VM.',
      });
    }
  }
}

/** Addresses are compared as the plan and the guests write them. */
function judgeAddresses({ hosts, vms }: Situation, add: Judge): void {
  const holders = new Map<string, string>();
  const uuids = new Set(vms.map(({ uuid }) => uuid));
  for (const host of hosts) {
    for (const other of host.vms.filter(({ isUp, uuid }) => isUp && !uuids.has(uuid))) {
      for (const address of other.addresses) holders.set(bare(address), `VM ${other.name} on ${host.name}`);
    }
  }
  for (const vm of vms) {
    for (const address of new Set(vm.addresses.map(bare))) {
      const holder = holders.get(address);
      if (holder === undefined) {
        holders.set(address, `VM ${vm.name} of this plan`);
        continue;
      }
      add(ofVm(vm), {
        severity: 'error',
        code: 'address_taken',
        text: `${vm.name} is to have ${address}, which ${holder} has`,
        hint: 'Give it another address in the plan, or in the rule that makes it.',
      });
    }
  }
}

function bare(address: string): string {
  return address.replace(/\/\d+$/, '').toLowerCase();
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((all, number) => all + number, 0);
}
