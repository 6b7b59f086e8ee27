import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmReport } from '#/control/reports.ts';
import { Failure } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { AddressBook } from './address-book.ts';
import type { GuestNic } from './guest-addresses.ts';

const MAC = '52:54:00:00:00:01';
const vm = (uuid: string, state = 'running'): VmReport => ({
  uuid,
  name: uuid,
  state,
  memory_bytes: 1,
  vcpu_count: 1,
  recovered_by_task: null,
  disks: [],
  networks: ['lan'],
  interfaces: [{ mac: MAC, network: 'lan', addresses: [] }],
  refusals: [],
});

test('what a guest told stays until it tells something else, also when it is off', async () => {
  const signal = new AbortController().signal;
  let vms = [vm('a'), vm('b'), vm('c', 'shutoff')];
  let told: Record<string, GuestNic['addresses'] | Failure> = {};
  let changes = 0;
  const asked: string[] = [];
  const book = new AddressBook({
    libvirt: {
      ready: async () => undefined,
      current: () => ({ lookupDomainByUuid: async (uuid) => ({ uuid }) as unknown as Domain }),
    },
    clock: systemClock,
    log: silentLog,
    vms: () => vms,
    changed: () => changes++,
    ask: async ({ uuid }) => {
      asked.push(uuid);
      const answer = told[uuid] ?? [];
      if (answer instanceof Failure) throw answer;
      return [{ mac: MAC, network: 'lan', addresses: answer }];
    },
  });
  const known = (): (string | undefined)[] =>
    book.added(vms).map(({ interfaces }) => interfaces?.[0]?.addresses.join(' '));

  const first = { address: '10.1.0.5', prefix: 24 };
  told = {
    a: [first, first, { address: '2001:db8::5', prefix: 64 }],
    b: new Failure('vm_unsupported', 'no agent'),
  };
  await book.look(signal);
  assert.deepEqual(asked, ['a', 'b'], 'one that is off is not asked');
  assert.deepEqual(known(), ['10.1.0.5/24 2001:db8::5/64', '', '']);
  await book.look(signal);
  assert.equal(changes, 1, 'nothing new is no change');
  told = { a: [], b: [{ address: '10.1.0.6', prefix: 24 }] };
  vms = [vm('a', 'shutoff'), vm('b')];
  await book.look(signal);
  assert.deepEqual(known(), ['10.1.0.5/24 2001:db8::5/64', '10.1.0.6/24']);
  told = { b: new Failure('unreachable', 'libvirt is away') };
  await assert.rejects(book.look(signal), { code: 'unreachable' });
  vms = [vm('b')];
  told = {};
  await book.look(signal);
  vms = [vm('a'), vm('b')];
  assert.deepEqual(known(), ['', '10.1.0.6/24'], 'a VM that went away is forgotten');
});
