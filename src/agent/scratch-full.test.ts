/**
 * Scratch that fills up in spite of every bound: QEMU pauses the guest with an I/O error, and the agent lets it go on
 * (I3). A real guest writes all over its disk; its scratch is a file system of two MiB that only QEMU sees.
 */
import assert from 'node:assert/strict';
import { mkdir, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { definition } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { DomainWatch } from './domain-watch.ts';
import { LibvirtSource } from './libvirt-source.ts';
import { runningBackup } from './own-tracking.ts';
import { VmTurns } from './vm-turns.ts';

const DISK_BYTES = 32 * 2 ** 20;
const WAIT_MS = 20_000;

/** Real-mode code of a boot sector: for ever, 32 KiB from 0x8000 to the next 64 KiB of the disk, by the BIOS. */
const CODE = [
  [0x31, 0xc0, 0x8e, 0xd8], // xor ax, ax; mov ds, ax
  [0xbe, 0x80, 0x7c], // again: mov si, 0x7c80: where and what to write
  [0xb8, 0x00, 0x43], // mov ax, 0x4300: extended write
  [0xb2, 0x80, 0xcd, 0x13], // mov dl, 0x80; int 0x13
  [0x81, 0x06, 0x88, 0x7c, 0x80, 0x00], // add word [0x7c88], 128 sectors
  [0xeb, 0xee], // jmp again
].flat();
/** At 0x7c80: length of this, 64 sectors, address 0:0x8000, sector 128. The sector's 16 low bits run over. */
const PACKET = [0x10, 0, 64, 0, 0x00, 0x80, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0];

async function makeWriter(daemon: PrivateLibvirtd): Promise<string> {
  const disk = new Uint8Array(DISK_BYTES);
  disk.set(CODE);
  disk.set(PACKET, 0x80);
  disk.set([0x55, 0xaa], 510);
  const imagePath = (target: string): string => `${daemon.directory}/writer-${target}.qcow2`;
  await writeFile(`${daemon.directory}/writer.raw`, disk);
  const convert = ['convert', '-S', '0', '-O', 'qcow2', `${daemon.directory}/writer.raw`];
  for (const target of ['vda', 'vdb']) await daemon.run('qemu-img', [...convert, imagePath(target)]);
  return definition('writer', imagePath);
}

test('a guest that was paused because its scratch was full goes on, and the moment is given up', async () => {
  await using daemon = await startPrivateLibvirtd();
  await using libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  const watch = new DomainWatch();
  await using events = await libvirt.subscribe(['lifecycle']);
  const suspensions: string[] = [];
  void (async () => {
    for await (const event of events) {
      watch.deliver(event);
      if (event.kind === 'lifecycle' && event.change === 'suspended') suspensions.push(event.reason);
    }
  })();
  const scratchDirectory = `${daemon.directory}/scratch`;
  for (const path of [scratchDirectory, `${daemon.directory}/run`]) await mkdir(path);
  await daemon.run('mount', ['-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', scratchDirectory]);
  await daemon.run('mkdir', [`${scratchDirectory}/replica-1`]);
  const domain = await (await libvirt.defineDomain(await makeWriter(daemon))).start();
  const written = async (): Promise<number> => (await domain.disk('vda').getCounters()).writtenBytes;
  await until(async () => (await written()) > 2 ** 20, 'the guest writes');
  const source = new LibvirtSource({
    replicaId: 'replica-1',
    vm: { uuid: domain.uuid, name: domain.name },
    libvirt: () => libvirt,
    watch,
    turns: new VmTurns(),
    clock: systemClock,
    scratchDirectory,
    runDirectory: `${daemon.directory}/run`,
    tpmDirectory: `${daemon.directory}/swtpm`,
  });
  const request = { next: 'e'.repeat(32), disks: [], scratchBytes: 2 ** 30 };
  const moment = await source.freeze(request, new AbortController().signal);
  await until(() => Promise.resolve(moment.lost.aborted), 'the moment is lost');
  assert(hasCode(moment.lost.reason, 'scratch_full'), String(moment.lost.reason));
  assert.deepEqual(suspensions, ['io-error']);
  await moment.release('given_up');
  assert.equal(await runningBackup(domain), undefined);
  assert.equal((await domain.getState()).state, 'running');
  const before = await written();
  await until(async () => (await written()) > before, 'the guest writes again');
  await domain.destroy();
});

async function until(isSo: () => Promise<boolean>, what: string): Promise<void> {
  const end = systemClock.monotonicMs() + WAIT_MS;
  while (!(await isSo())) {
    assert(systemClock.monotonicMs() < end, `it never came to pass that ${what}`);
    await systemClock.sleep(10);
  }
}
