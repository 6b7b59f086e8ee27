/**
 * The state directory of a VM's software TPM as one run of bytes, to travel with a recovery point
 * (docs/storage-format.md, section 13).
 *
 *   offset  bytes  field
 *        0      4  magic "APT1"
 *        4      4  file count, 0 to FILES_MAX
 *        8      .  for each file, by path: path length (2), path (UTF-8), length (4), bytes
 *        .      4  crc32 of everything before
 *
 * All integers are big-endian. Paths are relative, of safe characters, and at most DEPTH_MAX deep, so that bytes from a
 * peer cannot place a file elsewhere.
 */
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { Failure } from '#/lib/failure.ts';

const MAGIC = 0x41505431;
const FILES_MAX = 64;
const DEPTH_MAX = 3;
const FILE_BYTES_MAX = 16 * 1024 * 1024;
const SAFE_PART = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
/** Left out: a lock belongs to the process that holds it. */
const LEFT_OUT = /(^|\/)\.lock$|\.pid$|\.sock$/;

export type TpmFile = { path: string; bytes: Uint8Array };

export function encodeTpmState(files: readonly TpmFile[]): Uint8Array {
  const parts: Uint8Array[] = [word(MAGIC), word(files.length)];
  for (const file of files.toSorted((a, b) => (a.path < b.path ? -1 : 1))) {
    const path = new TextEncoder().encode(file.path);
    parts.push(
      Uint8Array.of(path.length >> 8, path.length & 0xff),
      path,
      word(file.bytes.length),
      file.bytes,
    );
  }
  const body = Buffer.concat(parts);
  return new Uint8Array(Buffer.concat([body, word(crc32(body))]));
}

/** Throws Failure storage_corrupt that names what is wrong. */
export function decodeTpmState(bytes: Uint8Array): TpmFile[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length - 4;
  if (end < 8 || view.getUint32(0) !== MAGIC) throw corrupt('magic');
  if (view.getUint32(end) !== crc32(bytes.subarray(0, end))) throw corrupt('checksum');
  const count = view.getUint32(4);
  if (count > FILES_MAX) throw corrupt('file count');
  const files: TpmFile[] = [];
  let at = 8;
  for (let i = 0; i < count; i++) {
    if (at + 2 > end) throw corrupt('length');
    const pathEnd = at + 2 + view.getUint16(at);
    if (pathEnd + 4 > end) throw corrupt('path length');
    const path = new TextDecoder().decode(bytes.subarray(at + 2, pathEnd));
    if (!isSafePath(path)) throw corrupt('path');
    const length = view.getUint32(pathEnd);
    at = pathEnd + 4 + length;
    if (length > FILE_BYTES_MAX || at > end) throw corrupt('file length');
    files.push({ path, bytes: bytes.subarray(pathEnd + 4, at) });
  }
  if (at !== end) throw corrupt('length');
  return files;
}

/** Reads a state directory; undefined when there is none. Throws limit_exceeded when it is no TPM's. */
export async function packTpmState(directory: string): Promise<Uint8Array | undefined> {
  let names: string[];
  try {
    names = (await readdir(directory, { recursive: true })).toSorted();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new Failure('storage_io', `read the TPM state in ${directory}`, { cause: error });
  }
  const files: TpmFile[] = [];
  for (const path of names) {
    if (LEFT_OUT.test(path) || !isSafePath(path)) continue;
    const about = await stat(join(directory, path));
    if (!about.isFile()) continue;
    if (about.size > FILE_BYTES_MAX || files.length === FILES_MAX) {
      throw new Failure(
        'limit_exceeded',
        `read the TPM state in ${directory}: ${path} goes beyond what a TPM keeps`,
      );
    }
    files.push({ path, bytes: await readFile(join(directory, path)) });
  }
  return encodeTpmState(files);
}

/** Writes the files below `directory`, which is made. */
export async function unpackTpmState(bytes: Uint8Array, directory: string): Promise<void> {
  for (const file of decodeTpmState(bytes)) {
    const path = join(directory, file.path);
    await mkdir(dirname(path), { recursive: true, mode: 0o711 });
    await writeFile(path, file.bytes, { mode: 0o600 });
  }
}

function isSafePath(path: string): boolean {
  const parts = path.split('/');
  return parts.length <= DEPTH_MAX && parts.every((part) => SAFE_PART.test(part));
}

function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

function corrupt(what: string): Failure {
  return new Failure('storage_corrupt', `decode TPM state: wrong ${what}`);
}
