/**
 * The file of a backup, byte by byte (docs/backup-format.md): a readable head, then sealed parts, each compressed and
 * encrypted with a key of the passphrase.
 *
 * Invariants: nothing of a part is believed before its checksum and its seal fit; a part that is missing, of another
 * file, or in another place does not fit; a file without its last part is no backup.
 */
import { createCipheriv, createDecipheriv, createHash, randomBytes, scrypt } from 'node:crypto';
import { promisify } from 'node:util';
import { crc32, zstdCompress, zstdDecompress } from 'node:zlib';
import { Check } from 'typebox/value';
import { Type, type Static } from 'typebox';
import { Failure } from '#/lib/failure.ts';

const MAGIC = Buffer.from('APBACKUP');
const VERSION = 1;
const FIXED_BYTES = 12;
const HEAD_BYTES_MAX = 16 * 1024;
const PREFIX_BYTES = 5;
const CRC_BYTES = 4;
const TAG_BYTES = 16;
/** Of a part, before it is compressed; and what is read at most. */
export const PART_BYTES = 1024 * 1024;
const PART_BYTES_MAX = 64 * 1024 * 1024;
const SCRYPT = { N: 32_768, r: 8, p: 1 };

export const BackupHead = Type.Object(
  {
    created_ms: Type.Integer({ minimum: 0 }),
    site_id: Type.String({ maxLength: 128 }),
    site_name: Type.String({ maxLength: 1024 }),
    /** Of the manager that wrote it. */
    version: Type.String({ maxLength: 64 }),
    database: Type.Union([Type.Literal('sqlite'), Type.Literal('postgresql')]),
    /** Names of the steps that made its tables. */
    migrations: Type.Array(Type.String({ maxLength: 128 }), { maxItems: 1000 }),
    /** 32 random bytes, as base64. */
    salt: Type.String({ maxLength: 64 }),
  },
  { additionalProperties: false },
);
export type BackupHead = Static<typeof BackupHead>;

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

export function newSalt(): string {
  return randomBytes(32).toString('base64');
}

export function encodeHead(head: BackupHead): Buffer {
  const text = Buffer.from(JSON.stringify(head));
  const fixed = Buffer.alloc(FIXED_BYTES);
  MAGIC.copy(fixed);
  fixed.writeUInt16BE(VERSION, 8);
  fixed.writeUInt16BE(text.length, 10);
  return withCrc(Buffer.concat([fixed, text]));
}

/** The key of a file, and what each of its parts is bound to. */
export type Seal = { key: Buffer; head: Buffer };

export async function sealOf(passphrase: string, head: BackupHead, encodedHead: Buffer): Promise<Seal> {
  const salt = Buffer.from(head.salt, 'base64');
  const key = await new Promise<Buffer>((resolve, reject) => {
    const options = { ...SCRYPT, maxmem: 64 * 1024 * 1024 };
    scrypt(passphrase.normalize('NFC'), salt, 32, options, (error, derived) =>
      error === null ? resolve(derived) : reject(error),
    );
  });
  return { key, head: createHash('sha256').update(encodedHead).digest() };
}

export async function encodePart(
  seal: Seal,
  number: number,
  part: { bytes: Uint8Array; isLast: boolean },
): Promise<Buffer> {
  const cipher = createCipheriv('aes-256-gcm', seal.key, nonceOf(number, part.isLast));
  cipher.setAAD(seal.head);
  const sealed = Buffer.concat([
    cipher.update(await compress(part.bytes)),
    cipher.final(),
    cipher.getAuthTag(),
  ]);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(sealed.length, 0);
  prefix[4] = part.isLast ? 1 : 0;
  return withCrc(Buffer.concat([prefix, sealed]));
}

/** Hands out as many bytes as asked for, or fewer at the end of the file. */
export type ReadBytes = (bytes: number) => Promise<Buffer>;

/** Throws storage_corrupt, protocol_unsupported. */
export async function readHead(read: ReadBytes): Promise<{ head: BackupHead; encoded: Buffer }> {
  const fixed = await read(FIXED_BYTES);
  if (fixed.length < FIXED_BYTES || !fixed.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new Failure('storage_corrupt', 'read the backup: it does not begin as a backup of Antipode does');
  }
  const length = fixed.readUInt16BE(10);
  if (length > HEAD_BYTES_MAX) throw damaged('its head');
  const encoded = Buffer.concat([fixed, await read(length + CRC_BYTES)]);
  if (encoded.length < FIXED_BYTES + length + CRC_BYTES || !fits(encoded)) throw damaged('its head');
  const version = fixed.readUInt16BE(8);
  if (version !== VERSION) {
    throw new Failure('protocol_unsupported', `read the backup: its format is ${version}, not ${VERSION}`, {
      hint: 'Restore it with the version of Antipode that wrote it, or a newer one.',
    });
  }
  const value: unknown = JSON.parse(encoded.subarray(FIXED_BYTES, -CRC_BYTES).toString());
  if (!Check(BackupHead, value)) throw damaged('its head');
  return { head: value, encoded };
}

/** What was sealed, part by part. Throws storage_corrupt, which names the part, or unauthenticated. */
export async function* readParts(read: ReadBytes, seal: Seal): AsyncGenerator<Buffer> {
  for (let number = 0; ; number++) {
    const what = `part ${number + 1}`;
    const prefix = await read(PREFIX_BYTES);
    const length = prefix.length < PREFIX_BYTES ? 0 : prefix.readUInt32BE(0);
    if (length <= TAG_BYTES || length > PART_BYTES_MAX || prefix[4]! > 1) throw damaged(what);
    const whole = Buffer.concat([prefix, await read(length + CRC_BYTES)]);
    if (whole.length < PREFIX_BYTES + length + CRC_BYTES || !fits(whole)) throw damaged(what);
    const isLast = prefix[4] === 1;
    yield await openPart(seal, number, { sealed: whole.subarray(PREFIX_BYTES, -CRC_BYTES), isLast });
    if (!isLast) continue;
    if ((await read(1)).length > 0) throw damaged('what follows its last part');
    return;
  }
}

async function openPart(
  seal: Seal,
  number: number,
  part: { sealed: Buffer; isLast: boolean },
): Promise<Buffer> {
  const { isLast, sealed } = part;
  const decipher = createDecipheriv('aes-256-gcm', seal.key, nonceOf(number, isLast));
  decipher.setAAD(seal.head);
  decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
  let opened: Buffer;
  try {
    opened = Buffer.concat([decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final()]);
  } catch (error) {
    // Its checksum fits, so what is wrong is no accident of a disk.
    const hint = 'Give the passphrase that it was made with.';
    const message = `open part ${number + 1} of the backup: another passphrase, or changed by somebody`;
    throw new Failure('unauthenticated', message, { cause: error, hint });
  }
  return decompress(opened, { maxOutputLength: PART_BYTES_MAX });
}

/** Each key is of one file, by its salt: a count is never used twice with it. */
function nonceOf(number: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32BE(number, 7);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

function withCrc(bytes: Buffer): Buffer {
  const crc = Buffer.alloc(CRC_BYTES);
  crc.writeUInt32BE(crc32(bytes));
  return Buffer.concat([bytes, crc]);
}

function fits(bytes: Buffer): boolean {
  return crc32(bytes.subarray(0, -CRC_BYTES)) === bytes.readUInt32BE(bytes.length - CRC_BYTES);
}

function damaged(what: string): Failure {
  return new Failure('storage_corrupt', `read the backup: ${what} is damaged or cut off`, {
    hint: 'Take another copy of this backup, or an older one.',
  });
}
