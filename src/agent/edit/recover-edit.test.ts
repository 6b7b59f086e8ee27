/** When a recovery edits disks or puts them back, what it leaves in the definition, and what a failure means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RecoverTask } from '#/control/orders.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import type { Adapted } from '#/recovery/adapt-definition.ts';
import { editHomeIn, withEditHome } from '#/recovery/edit-mark.ts';
import type { OfflineWish } from './decide-edit.ts';
import type { Edited } from './edit-disks.ts';
import { carryOutEdit, editOf, type EditDisks } from './recover-edit.ts';

const BEFORE = ['52:54:00:00:00:01', '52:54:00:00:00:02'];
const nic = (mac?: string): string =>
  `<interface type='network'>${mac === undefined ? '' : `<mac address='${mac}'/>`}</interface>`;
const definition = (macs: readonly (string | undefined)[]): string =>
  `<domain type='qemu'><name>web</name><devices>${macs.map(nic).join('')}</devices></domain>`;
const adaptedOf = (xml: string): Adapted => ({
  xml,
  uuid: 'uuid',
  networks: [],
  macs: BEFORE,
  policies: new Map(),
  notes: [],
});
const JOURNEY = { from_site_id: 'west', to_site_id: 'east' };
const EDIT: NonNullable<RecoverTask['edit']> = {
  host_name: null,
  addresses: [{ nic: BEFORE[1]!, ipv4: ['10.2.0.5/24'] }],
  timeout_ms: 1000,
  on_failure: 'abort',
};

function taskOf(change: Partial<RecoverTask>): RecoverTask {
  return {
    id: 'job-1-recover',
    kind: 'recover',
    replica_id: 'replica-1',
    view: {
      socket_path: '/s',
      attachments_path: '/a',
      sequence: 1,
      disks: [{ key: 'vda', bytes: 1, export_name: 'vda' }],
      attachments: [],
    },
    name: 'web',
    purpose: 'recovery',
    epoch: 2,
    networks: {},
    default_network: null,
    storage_path: '/images',
    sign_of_life: { serial_text: null, timeout_ms: 1 },
    ...change,
  };
}

test('A test gets MAC addresses that its edit goes by, the same at every try, and remembers no home', () => {
  const task = taskOf({ purpose: 'test', edit: EDIT });
  const adapted = adaptedOf(definition([undefined, undefined]));
  const first = editOf(task, adapted)!;
  const [wanted] = first.wish!.nics;
  assert.match(wanted!.mac, /^52:54:00(:[0-9a-f]{2}){3}$/);
  assert.deepEqual([wanted!.place, wanted!.macBefore, first.wish!.nicCount], [1, BEFORE[1], 2]);
  assert(first.xml.includes(wanted!.mac));
  assert.equal(editHomeIn(first.xml), undefined);
  assert.deepEqual(editOf(task, adapted), first);
  assert.notDeepEqual(editOf({ ...task, id: 'job-2-recover' }, adapted)!.wish, first.wish);
});

test('An edited VM remembers the site that it left first, and is put back as it was when it comes home', () => {
  const away = editOf(taskOf({ edit: EDIT, journey: JOURNEY }), adaptedOf(definition(BEFORE)))!;
  assert.equal(editHomeIn(away.xml), 'west');
  const further = { from_site_id: 'east', to_site_id: 'north' };
  const there = adaptedOf(away.xml);
  assert.equal(editHomeIn(editOf(taskOf({ edit: EDIT, journey: further }), there)!.xml), 'west');
  assert.equal(editOf(taskOf({ journey: further }), there), undefined);
  assert.equal(editOf(taskOf({ purpose: 'test' }), there), undefined);

  const back = editOf(taskOf({ journey: { from_site_id: 'north', to_site_id: 'west' } }), there)!;
  assert.equal(back.wish, null);
  assert.equal(editHomeIn(back.xml), undefined);
});

test('A VM that was never edited is not opened', () => {
  const adapted = adaptedOf(definition(BEFORE));
  assert.equal(editOf(taskOf({ journey: JOURNEY }), adapted), undefined);
  assert.equal(editOf(taskOf({ purpose: 'test' }), adapted), undefined);
});

test('Addresses of an interface that the VM has not, or twice, are refused before anything is opened', () => {
  const adapted = adaptedOf(definition(BEFORE));
  const ask = (addresses: NonNullable<RecoverTask['edit']>['addresses']) => () =>
    editOf(taskOf({ edit: { ...EDIT, addresses } }), adapted);
  assert.throws(ask([{ nic: 2 }]), { code: 'not_found' });
  assert.throws(ask([{ nic: '52:54:00:00:00:09' }]), { code: 'not_found' });
  assert.throws(ask([{ nic: 0 }, { nic: BEFORE[0]! }]), { code: 'usage_invalid' });
});

const DONE: Edited = { root: '/dev/sda1', method: 'netplan', changed: ['/etc/a'], isRestored: false };

async function carriedOut(change: Partial<RecoverTask>, editDisks: EditDisks, signal?: AbortSignal) {
  const task = taskOf({ journey: JOURNEY, edit: EDIT, ...change });
  const adapted = adaptedOf(definition(BEFORE));
  const said: (string | null)[] = [];
  let remade = 0;
  const work = carryOutEdit(
    editOf(task, adapted)!,
    {
      task,
      adapted,
      directory: '/d',
      editDisks,
      remake: async () => void remade++,
      note: (text) => void said.push(text),
    },
    signal ?? new AbortController().signal,
  );
  return { result: await work, said, remade, adapted };
}

test('An edit is of the overlays, in its time, and says which files it changed', async () => {
  const seen: unknown[] = [];
  const { result, said, remade } = await carriedOut({}, async (disks, wish: OfflineWish | null, limits) => {
    seen.push(disks, wish?.nicCount, limits.timeoutMs, limits.isEmulated);
    return DONE;
  });
  assert.deepEqual(seen, [[{ path: '/d/vda.qcow2', format: 'qcow2' }], 2, 1000, true]);
  assert.equal(editHomeIn(result.xml), 'west');
  assert.deepEqual([said, remade], [['by netplan, on /dev/sda1: /etc/a'], 0]);
});

test('An edit that fails fails the recovery by name, or leaves the VM as it is and says so', async () => {
  const refuse: EditDisks = () =>
    Promise.reject(new Failure('vm_unsupported', 'no Linux was found', { hint: 'encrypted' }));
  await assert.rejects(carriedOut({}, refuse), (error: Failure) => {
    assert(hasCode(error, 'vm_unsupported'));
    assert.deepEqual(
      [error.message, error.hint],
      ['recover web: give it its addresses by its disks: no Linux was found', 'encrypted'],
    );
    return true;
  });
  const goOn = await carriedOut({ edit: { ...EDIT, on_failure: 'continue' } }, refuse);
  assert.equal(goOn.remade, 1, 'what it may have written is not started');
  assert.equal(goOn.result.xml, goOn.adapted.xml);
  assert.match(goOn.result.said ?? '', /^The addresses were not changed: .*no Linux was found/);
});

test('An edit that is stopped goes on as nothing, whatever the plan says of failures', async () => {
  const stop = new AbortController();
  const cut: EditDisks = () => {
    stop.abort(new Failure('cancelled', 'withdrawn'));
    return Promise.reject(new Failure('cancelled', 'withdrawn'));
  };
  const edit = { ...EDIT, on_failure: 'continue' } as const;
  await assert.rejects(carriedOut({ edit }, cut, stop.signal), { code: 'cancelled' });
});

test('A mark of an edit is replaced, never added', () => {
  const twice = withEditHome(withEditHome(definition(BEFORE), 'west'), 'north');
  assert.equal(editHomeIn(twice), 'north');
  assert.equal(twice.match(/<antipode-edit:addresses/g)?.length, 1);
  assert.equal(editHomeIn(withEditHome(twice, undefined)), undefined);
});
