/**
 * Exports one recovery point of a replica directory: its disks as raw or qcow2 files, its definition, firmware
 * variables and TPM state beside them.
 *
 * Nothing is overwritten; a file has its name only when it is whole and durable.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdir, open, rename, rm, statfs, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { isZero } from '#/disk/is-zero.ts';
import { BLOCK_BYTES, type Disk } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import type { BareReplica } from '#/replica/bare-replica.ts';
import type { View } from '#/replica/replica.ts';

export type ExportFormat = 'raw' | 'qcow2';
export type ExportRequest = {
  replica: BareReplica;
  sequence: number;
  /** Where the files go; made when it is missing. */
  target: string;
  format: ExportFormat;
  progress: (doneBytes: number, totalBytes: number) => void;
  signal: AbortSignal;
};
/** `sha256` is of the disk's content, whatever the format of the file. */
export type ExportedDisk = { key: string; path: string; bytes: number; sha256: string };
export type ExportReport = { sequence: number; disks: ExportedDisk[]; files: string[] };

const PIECE_BYTES = 1024 * 1024;
const ZERO_PIECE = new Uint8Array(PIECE_BYTES);
/** What a target must have beyond the data: names, maps of the format, other files. */
const SPARE_BYTES = 16 * 1024 * 1024;
const FILE_NAMES = { definition: 'definition.xml', nvram: 'nvram', tpm: 'tpm' } as const;

export async function exportPoint(request: ExportRequest): Promise<ExportReport> {
  const { replica, sequence, target, format } = request;
  await using view = await replica.openView(sequence);
  await mkdir(target, { recursive: true });
  const keys = view.point.disks.map(({ key }) => key);
  const attachments = view.point.attachments.map((each) => ({ ...each, name: FILE_NAMES[each.kind] }));
  for (const name of [...keys.map((key) => diskName(key, format)), ...attachments.map(({ name }) => name)]) {
    await refuseExisting(join(target, name));
  }
  await checkSpace(view, request);
  const totalBytes = view.disks.reduce((sum, { bytes }) => sum + bytes, 0);
  const disks: ExportedDisk[] = [];
  let doneBytes = 0;
  for (const [index, disk] of view.disks.entries()) {
    const key = keys[index]!;
    const path = join(target, diskName(key, format));
    const before = doneBytes;
    const sha256 = await exportDisk(disk, path, {
      ...request,
      progress: (done) => request.progress(before + done, totalBytes),
    });
    doneBytes += disk.bytes;
    disks.push({ key, path, bytes: disk.bytes, sha256 });
  }
  const files: string[] = [];
  for (const { name, sha256 } of attachments) {
    files.push(join(target, name));
    await writeFile(files.at(-1)!, await replica.attachment(sha256), {
      flag: 'wx',
      mode: 0o600,
      flush: true,
    });
  }
  return { sequence, disks, files };
}

async function exportDisk(disk: Disk, path: string, request: ExportRequest): Promise<string> {
  const raw = `${path}.part`;
  const converted = `${path}.converting`;
  try {
    const sha256 = await writeRaw(disk, raw, request);
    if (request.format === 'qcow2') {
      await convert(raw, converted, request.signal);
      await rm(raw);
      await finish(converted, path);
    } else await finish(raw, path);
    return sha256;
  } finally {
    for (const left of [raw, converted]) await rm(left, { force: true });
  }
}

/** Writes a sparse raw file; returns the hash of the disk's content. */
async function writeRaw(disk: Disk, path: string, { progress, signal }: ExportRequest): Promise<string> {
  await refuseExisting(path);
  await using file = await open(path, 'wx', 0o600);
  await file.truncate(disk.bytes);
  const hash = createHash('sha256');
  for (let offset = 0; offset < disk.bytes;) {
    for (const extent of await disk.extents(offset, disk.bytes - offset, signal)) {
      for (let at = extent.offset; at < extent.offset + extent.length;) {
        signal.throwIfAborted();
        const length = Math.min(PIECE_BYTES, extent.offset + extent.length - at);
        if (extent.kind === 'zero') hash.update(ZERO_PIECE.subarray(0, length));
        else await copyPiece(disk, file, { offset: at, length, hash });
        at += length;
        progress(at, disk.bytes);
      }
      offset = extent.offset + extent.length;
    }
  }
  await file.datasync();
  return hash.digest('hex');
}

async function copyPiece(
  disk: Disk,
  file: FileHandle,
  { offset, length, hash }: { offset: number; length: number; hash: ReturnType<typeof createHash> },
): Promise<void> {
  const bytes = new Uint8Array(length);
  await disk.read(offset, bytes);
  hash.update(bytes);
  if (isZero(bytes)) return;
  try {
    await file.write(bytes, 0, length, offset);
  } catch (error) {
    const isFull = (error as NodeJS.ErrnoException).code === 'ENOSPC';
    throw new Failure(isFull ? 'storage_full' : 'storage_io', `write the export at ${offset}`, {
      cause: error,
    });
  }
}

async function convert(source: string, target: string, signal: AbortSignal): Promise<void> {
  const argv = ['convert', '-f', 'raw', '-O', 'qcow2', '-S', String(BLOCK_BYTES), source, target];
  const child = spawn('qemu-img', argv, { stdio: ['ignore', 'ignore', 'pipe'], signal });
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (words = (words + text).slice(-2000)));
  try {
    const [code] = (await once(child, 'close')) as [number | null];
    if (code === 0) return;
    throw new Error(words.trim() || `qemu-img ended with ${code}`);
  } catch (error) {
    signal.throwIfAborted();
    const hint = 'Install qemu-utils, or export as raw.';
    throw new Failure('tool_failed', `convert ${source} to qcow2`, { cause: error, hint });
  }
}

/** Makes the content durable before it gets its name. */
async function finish(path: string, target: string): Promise<void> {
  await using file = await open(path, 'r');
  await file.datasync();
  await refuseExisting(target);
  await rename(path, target);
}

async function refuseExisting(path: string): Promise<void> {
  try {
    await access(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new Failure('storage_io', `look at ${path}`, { cause: error });
  }
  throw new Failure('already_exists', `export to ${path}: the file exists`, {
    hint: 'Name another directory.',
  });
}

/** Throws storage_full before anything is written. A qcow2 stands beside the raw file it is made from. */
async function checkSpace(view: View, { target, format, signal }: ExportRequest): Promise<void> {
  let needed = SPARE_BYTES;
  let largest = 0;
  for (const disk of view.disks) {
    const bytes = await dataBytes(disk, signal);
    needed += bytes;
    largest = Math.max(largest, bytes);
  }
  if (format === 'qcow2') needed += largest;
  const { bavail, bsize } = await statfs(target);
  if (bavail * bsize >= needed) return;
  throw new Failure(
    'storage_full',
    `export to ${target}: ${needed} bytes are needed, ${bavail * bsize} are free`,
  );
}

async function dataBytes(disk: Disk, signal: AbortSignal): Promise<number> {
  let sum = 0;
  for (let offset = 0; offset < disk.bytes;) {
    const extents = await disk.extents(offset, disk.bytes - offset, signal);
    for (const extent of extents) {
      if (extent.kind === 'data') sum += extent.length;
      offset = extent.offset + extent.length;
    }
  }
  return sum;
}

function diskName(key: string, format: ExportFormat): string {
  return `${key}.${format}`;
}
