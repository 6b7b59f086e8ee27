/**
 * Where an edit stands among the steps of a recovery, on a real host: between overlays and definition, so that what was
 * cut is never started. The edit itself is a write into the overlay; the real one is in edit-disks.test.ts.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { runDiscard } from '#/agent/discard-task.ts';
import { runRecover, type RecoverContext } from '#/agent/recover-task.ts';
import { DyingSteps, recoverContext, ServedPoint } from '#/agent/recovery-fixture.ts';
import type { DiskEdit } from '#/control/guest-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { definition } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import type { ApplianceDisk } from './appliance.ts';
import type { OfflineWish } from './decide-edit.ts';
import type { EditDisks } from './recover-edit.ts';

const run = promisify(execFile);
const forever = new AbortController().signal;
const MIB = 2 ** 20;
const NIC =
  "<interface type='network'><mac address='52:54:00:aa:bb:cc'/><source network='prod'/></interface>";
const EDIT: DiskEdit = {
  host_name: null,
  addresses: [{ nic: 0, ipv4: ['10.2.0.5/24'] }],
  timeout_ms: 60_000,
  on_failure: 'abort',
};

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let point: ServedPoint;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  const directory = `${daemon.directory}/point`;
  await mkdir(directory);
  point = new ServedPoint(directory, { vda: new Uint8Array(8 * MIB), vdb: new Uint8Array(MIB) });
  const xml = definition('web', (target) => `/gone/${target}.qcow2`);
  const uuid = '<uuid>6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e</uuid>';
  await point.attach(
    'definition',
    xml.replace('<memory', `${uuid}<memory`).replace('<devices>', `<devices>${NIC}`),
  );
  await point.start();
});
after(async () => {
  await point?.[Symbol.asyncDispose]();
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
});

const context = (change: Partial<RecoverContext>): RecoverContext =>
  recoverContext({ libvirt, directory: daemon.directory }, change);

const qemuIo = (disk: ApplianceDisk, command: string) =>
  run('qemu-io', ['-f', disk.format, '-c', command, disk.path]);
/** qemu-io ends with 1 when the bytes are not those, and says so. */
const isFresh = (disk: ApplianceDisk): Promise<boolean> =>
  qemuIo(disk, 'read -P 0 1M 4k').then(
    () => true,
    (error: { stdout?: string }) => {
      assert.match(error.stdout ?? '', /Pattern verification failed/);
      return false;
    },
  );

test('A recovery that is cut in or after its edit defines no VM, and the next try edits new overlays', async () => {
  const task = point.task({ id: 'e1', name: 'e1', purpose: 'test', networks: {}, start: false, edit: EDIT });
  const wishes: (OfflineWish | null)[] = [];
  const edit =
    (isCut: boolean): EditDisks =>
    async (disks, wish) => {
      wishes.push(wish);
      assert(await isFresh(disks[0]!), 'nothing of an earlier try is in the overlay');
      await qemuIo(disks[0]!, 'write -P 0x41 1M 4k');
      if (isCut) throw new Error('killed');
      return { root: '/dev/sda1', method: 'netplan', changed: ['/etc/a'], isRestored: false };
    };
  const name = 'edit the disks';
  await assert.rejects(runRecover(task, context({ editDisks: edit(true) }), forever), /killed/);
  const steps = new DyingSteps({ name, when: 'after' });
  await assert.rejects(runRecover(task, context({ editDisks: edit(false), steps }), forever), /killed/);
  assert.deepEqual(await libvirt.listDomains(), []);

  const whole = context({ editDisks: edit(false) });
  const result = await runRecover(task, whole, forever);
  assert.equal(
    whole.steps.steps.find((step) => step.name === name)?.note,
    'by netplan, on /dev/sda1: /etc/a',
  );
  assert.deepEqual([result.left_off, result.not_edited], [true, null]);
  const domain = await libvirt.lookupDomainByName('e1');
  const mac = wishes.at(-1)!.nics[0]!.mac;
  assert((await domain.getXml()).includes(mac), 'the VM has the MAC address that its guest was told');
  assert.equal(wishes[0]!.nics[0]!.macBefore, '52:54:00:aa:bb:cc');
  assert(!(await isFresh({ path: `${result.directory}/vda.qcow2`, format: 'qcow2' })));
  assert.deepEqual(await runRecover(task, context({}), forever), result, 'a repeat edits nothing');
  assert.equal(wishes.length, 3);
  await runDiscard({ id: 'd', kind: 'discard', recover_task_id: 'e1' }, context({}), forever);
});

test('A VM that may come up as it is has overlays without a half edit, and says why it was not changed', async () => {
  const edit: DiskEdit = { ...EDIT, on_failure: 'continue' };
  const task = point.task({ id: 'e2', name: 'e2', purpose: 'test', networks: {}, start: false, edit });
  const editDisks: EditDisks = async (disks) => {
    await qemuIo(disks[0]!, 'write -P 0x41 1M 4k');
    throw new Failure('vm_unsupported', 'no Linux was found', { hint: 'Not opened: /dev/sda1: crypto_LUKS' });
  };
  const result = await runRecover(task, context({ editDisks }), forever);
  assert.match(result.not_edited ?? '', /^The addresses were not changed: .*no Linux was found/);
  assert(await isFresh({ path: `${result.directory}/vda.qcow2`, format: 'qcow2' }));
  assert.deepEqual(await runRecover(task, context({}), forever), result);
  await runDiscard({ id: 'd', kind: 'discard', recover_task_id: 'e2' }, context({}), forever);
});
