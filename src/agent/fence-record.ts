/**
 * A fence record: the highest epoch of a VM that this host knows, and the site that may run it, as text that a shell
 * can read. Normative: docs/fencing.md, section 3.
 *
 *   antipode-fence 1
 *   vm 7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001
 *   epoch 2
 *   site site-0c4f1a
 *   issued 1795377600000
 *   signature lJ0...
 *   site-name east
 *   vm-name ledger
 *   crc32 0a1b2c3d
 *
 * Each line ends with a line feed; crc32 is over all bytes before its own line. Names are for people and not signed.
 */
import { crc32 } from 'node:zlib';
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';

export type FenceRecord = { claim: EpochClaim; siteName: string; vmName: string };

/** Longer than any that is written: two names of 255 characters, and the rest. */
export const FENCE_BYTES_MAX = 4096;
export const VM_UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const MAGIC = 'antipode-fence 1';
const NAMES = ['vm', 'epoch', 'site', 'issued', 'signature', 'site-name', 'vm-name', 'crc32'] as const;
const ID = /^[0-9a-z][0-9a-z-]{0,63}$/;
/** What any shell can compare. */
const EPOCH = /^[1-9]\d{0,8}$/;
const NUMBER = /^[1-9]\d{0,15}$/;
const SIGNATURE = /^[\w-]{86}$/;
/** As libvirt allows names, and so that no record can hold a line of its own making or write to a terminal. */
// eslint-disable-next-line no-control-regex -- these are what is refused
const PRINTABLE = /^[^\u0000-\u001f\u007f-\u009f]{1,255}$/;

export function encodeFence({ claim, siteName, vmName }: FenceRecord): Uint8Array {
  const values = [
    claim.vm_uuid,
    String(claim.epoch),
    claim.site_id,
    String(claim.issued_ms),
    claim.signature,
    siteName,
    vmName,
  ];
  const body = `${MAGIC}\n${values.map((value, index) => `${NAMES[index]} ${value}\n`).join('')}`;
  const bytes = Buffer.from(`${body}crc32 ${checksum(Buffer.from(body))}\n`);
  // What cannot be read back must not become durable.
  decodeFence(bytes);
  return bytes;
}

/** Throws storage_corrupt that says which line is wrong. */
export function decodeFence(bytes: Uint8Array): FenceRecord {
  if (bytes.length > FENCE_BYTES_MAX) throw corrupt('its length');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (error) {
    throw corrupt('its text', error);
  }
  const lines = text.split('\n');
  if (lines.length !== NAMES.length + 2 || lines.at(-1) !== '') throw corrupt('its number of lines');
  if (lines[0] !== MAGIC) throw corrupt('its first line');
  const values = NAMES.map((name, index) => {
    const line = lines[index + 1]!;
    if (!line.startsWith(`${name} `)) throw corrupt(`the line of ${name}`);
    return line.slice(name.length + 1);
  });
  const [vm, epoch, site, issued, signature, siteName, vmName, crc] = values as EightValues;
  const body = bytes.subarray(0, bytes.length - `crc32 ${crc}\n`.length);
  if (crc !== checksum(body)) throw corrupt('its checksum');
  check('vm', VM_UUID.test(vm));
  check('epoch', EPOCH.test(epoch));
  check('site', ID.test(site));
  check('issued', NUMBER.test(issued) && Number.isSafeInteger(Number(issued)));
  check('signature', SIGNATURE.test(signature));
  check('site-name', PRINTABLE.test(siteName));
  check('vm-name', PRINTABLE.test(vmName));
  const claim = {
    vm_uuid: vm,
    epoch: Number(epoch),
    site_id: site,
    issued_ms: Number(issued),
    signature,
  };
  return { claim, siteName, vmName };
}

type EightValues = [string, string, string, string, string, string, string, string];

function checksum(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, '0');
}

function check(name: string, isGood: boolean): void {
  if (!isGood) throw corrupt(`the value of ${name}`);
}

function corrupt(part: string, cause?: unknown): Failure {
  return new Failure('storage_corrupt', `read a fence record: ${part} is wrong`, { cause });
}
