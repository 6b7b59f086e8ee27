/**
 * A guest for tests in one boot sector: it writes `!` to its first serial port and then everything back that it
 * reads there. For a `W` it writes a sector to its disk, 64 KiB further on every time, and answers `+`, or `-` when
 * that failed. It boots in a second under TCG and idles between bytes.
 */
import { writeFile } from 'node:fs/promises';
import type { PrivateLibvirtd } from './private-libvirtd.ts';

const SECTOR_BYTES = 512;
const DISK_BYTES = 8 * 2 ** 20;

/** Real-mode x86 code at 0x7c00, for the UART at 0x3f8 and the BIOS's disk service. */
const CODE = [
  [0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0], // xor ax, ax; mov ds, ax; mov ss, ax
  [0xbc, 0x00, 0x7c], // mov sp, 0x7c00
  [0xfb], // sti, for the timer to end every hlt
  [0xba, 0xf8, 0x03], // mov dx, 0x3f8: data
  [0xb0, 0x21, 0xee], // mov al, '!'; out dx, al
  [0xba, 0xfd, 0x03], // again: mov dx, 0x3fd: line status
  [0xec, 0xa8, 0x01], // in al, dx; test al, 1: is there a byte?
  [0x75, 0x03], // jnz read
  [0xf4, 0xeb, 0xf5], // hlt; jmp again
  [0xba, 0xf8, 0x03, 0xec], // read: mov dx, 0x3f8; in al, dx
  [0x3c, 0x57, 0x74, 0x03], // cmp al, 'W'; je write
  [0xee, 0xeb, 0xea], // out dx, al; jmp again
  [0xbe, 0x42, 0x7c], // write: mov si, packet
  [0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13], // mov ax, 0x4300; mov dl, 0x80; int 0x13: write to the first disk
  [0xb0, 0x2b, 0x73, 0x02, 0xb0, 0x2d], // mov al, '+'; jnc over; mov al, '-'
  [0x81, 0x06, 0x4a, 0x7c, 0x80, 0x00], // over: add word [packet + 8], 128
  [0xba, 0xf8, 0x03, 0xee, 0xeb, 0xce], // mov dx, 0x3f8; out dx, al; jmp again
  [0x10, 0, 1, 0, 0x00, 0x7c, 0, 0], // packet: 16 bytes long, one sector, from 0:0x7c00
  [0x80, 0, 0, 0, 0, 0, 0, 0], // to sector 128 and on
].flat();

/** What the rest of the disk is full of, so that copying it takes space. */
const FILL = 0xa5;

export type EchoGuest = { name: string; xml: string; imagePath: (target: string) => string };

/** Makes two qcow2 disks, the guest on `vda` and nothing on `vdb`, and a definition over them. */
export async function makeEchoGuest(daemon: PrivateLibvirtd, name: string): Promise<EchoGuest> {
  const imagePath = (target: string): string => `${daemon.directory}/${name}-${target}.qcow2`;
  const sector = new Uint8Array(SECTOR_BYTES);
  sector.set(CODE);
  sector.set([0x55, 0xaa], SECTOR_BYTES - 2);
  const disk = new Uint8Array(DISK_BYTES).fill(FILL);
  disk.set(sector);
  const raw = `${daemon.directory}/${name}.raw`;
  await writeFile(raw, disk);
  await daemon.run('qemu-img', ['convert', '-O', 'qcow2', raw, imagePath('vda')]);
  await daemon.run('qemu-img', ['create', '-q', '-f', 'qcow2', imagePath('vdb'), String(DISK_BYTES)]);
  return { name, imagePath, xml: definition(name, imagePath) };
}

/** A definition of a guest that boots these images. */
export function definition(name: string, imagePath: (target: string) => string): string {
  const disks = ['vda', 'vdb'].map(
    (target) => `<disk type="file" device="disk">
      <driver name="qemu" type="qcow2"/><source file="${imagePath(target)}"/><target dev="${target}" bus="virtio"/>
    </disk>`,
  );
  return `<domain type="qemu">
  <name>${name}</name>
  <memory unit="MiB">128</memory>
  <vcpu>1</vcpu>
  <os><type arch="x86_64" machine="q35">hvm</type><boot dev="hd"/></os>
  <features><acpi/></features>
  <on_crash>destroy</on_crash>
  <devices>
    ${disks.join('\n')}
    <controller type="scsi" model="virtio-scsi"/>
    <controller type="usb" model="none"/>
    <serial type="pty"><target port="0"/></serial>
    <console type="pty"><target type="serial" port="0"/></console>
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <video><model type="vga"/></video>
    <memballoon model="none"/>
  </devices>
</domain>`;
}
