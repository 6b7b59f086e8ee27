/**
 * Makes an empty qcow2 image on top of a backing image, as `qemu-img create` does, but without a process for each disk:
 * those take the processors that the VM's QEMU is about to need.
 *
 *   offset  bytes  field of the header, all big-endian
 *        0      4  magic "QFI\xfb"
 *        4      4  version 3, which is compat 1.1
 *        8      8  offset of the backing image's name
 *       16      4  length of that name, at most 1023
 *       20      4  cluster bits: 16, so clusters of 64 KiB
 *       24      8  length of the disk in bytes
 *       36      4  number of entries in the L1 table
 *       40      8  offset of the L1 table
 *       48      8  offset of the refcount table
 *       56      4  length of the refcount table in clusters
 *       96      4  refcount order: 4, so 16 bits for each cluster
 *      100      4  length of the header: 104
 *      104         extensions: type, length, content padded to 8 bytes; the last has type 0
 *
 * Clusters: 0 the header, 1 the refcount table, 2 the only refcount block, from 3 on the L1 table, all zero, so every
 * read goes to the backing image. Fields that are not named are zero. Source: QEMU's docs/interop/qcow2.txt.
 */
import { open } from 'node:fs/promises';
import { Failure } from '#/lib/failure.ts';

const MAGIC = 0x514649fb;
const CLUSTER_BITS = 16;
const CLUSTER_BYTES = 2 ** CLUSTER_BITS;
const HEADER_BYTES = 104;
const EXTENSION_BACKING_FORMAT = 0xe2792aca;
const BACKING_NAME_BYTES_MAX = 1023;
/** An L1 entry is for one L2 table, which is a cluster of 8-byte entries. */
const BYTES_PER_L1_ENTRY = (CLUSTER_BYTES / 8) * CLUSTER_BYTES;
/** QEMU opens no longer L1 table than 32 MiB. Its refcounts fit the one block many times. */
const DISK_BYTES_MAX = ((32 * 1024 * 1024) / 8) * BYTES_PER_L1_ENTRY;
const REFCOUNT_TABLE_CLUSTER = 1;
const REFCOUNT_BLOCK_CLUSTER = 2;
const L1_CLUSTER = 3;

export type Backing = {
  /** As QEMU takes it: a path, or `json:` and a blockdev's options. */
  name: string;
  format: 'raw' | 'qcow2';
};

/**
 * Makes the image at `path`, where there is no file yet. What is in the file is not forced to disk: QEMU does that when
 * the guest asks for it. Throws storage_full, storage_io, limit_exceeded.
 */
export async function createOverlay(path: string, diskBytes: number, backing: Backing): Promise<void> {
  const header = encodeHeader(path, diskBytes, backing);
  const clusters = L1_CLUSTER + l1Clusters(diskBytes);
  const tableEntry = Buffer.alloc(8);
  tableEntry.writeBigUInt64BE(BigInt(REFCOUNT_BLOCK_CLUSTER * CLUSTER_BYTES));
  const refcounts = Buffer.alloc(clusters * 2);
  for (let cluster = 0; cluster < clusters; cluster++) refcounts.writeUInt16BE(1, cluster * 2);
  try {
    await using file = await open(path, 'wx', 0o644);
    await file.truncate(clusters * CLUSTER_BYTES);
    await file.write(tableEntry, 0, tableEntry.length, REFCOUNT_TABLE_CLUSTER * CLUSTER_BYTES);
    await file.write(refcounts, 0, refcounts.length, REFCOUNT_BLOCK_CLUSTER * CLUSTER_BYTES);
    await file.write(header, 0, header.length, 0);
  } catch (cause) {
    const isFull = (cause as NodeJS.ErrnoException).code === 'ENOSPC';
    throw new Failure(isFull ? 'storage_full' : 'storage_io', `make overlay ${path}`, { cause });
  }
}

/**
 * Whether nothing was ever written to an image that `createOverlay` made: every write, also one of zeroes, needs a
 * table of clusters, and QEMU names it in the L1 table before it says that the write is done. Throws storage_io.
 */
export async function isUnwritten(path: string): Promise<boolean> {
  try {
    await using file = await open(path, 'r');
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
    const isOurs =
      bytesRead === HEADER_BYTES &&
      header.readUInt32BE(0) === MAGIC &&
      header.readUInt32BE(20) === CLUSTER_BITS &&
      header.readBigUInt64BE(40) === BigInt(L1_CLUSTER * CLUSTER_BYTES) &&
      header.readUInt32BE(36) === l1Entries(Number(header.readBigUInt64BE(24)));
    if (!isOurs) return false;
    const table = Buffer.alloc(header.readUInt32BE(36) * 8);
    await file.read(table, 0, table.length, L1_CLUSTER * CLUSTER_BYTES);
    return table.every((byte) => byte === 0);
  } catch (cause) {
    throw new Failure('storage_io', `look whether ${path} has been written to`, { cause });
  }
}

function encodeHeader(path: string, diskBytes: number, backing: Backing): Buffer {
  const name = Buffer.from(backing.name);
  if (name.length > BACKING_NAME_BYTES_MAX || diskBytes > DISK_BYTES_MAX) {
    const what = `a disk of ${diskBytes} bytes, a backing name of ${name.length}`;
    throw new Failure('limit_exceeded', `make overlay ${path}: ${what}; qcow2 takes less`);
  }
  const format = Buffer.from(backing.format);
  const nameOffset = HEADER_BYTES + 8 + 8 + 8;
  const header = Buffer.alloc(nameOffset + name.length);
  header.writeUInt32BE(MAGIC, 0);
  header.writeUInt32BE(3, 4);
  header.writeBigUInt64BE(BigInt(nameOffset), 8);
  header.writeUInt32BE(name.length, 16);
  header.writeUInt32BE(CLUSTER_BITS, 20);
  header.writeBigUInt64BE(BigInt(diskBytes), 24);
  header.writeUInt32BE(l1Entries(diskBytes), 36);
  header.writeBigUInt64BE(BigInt(L1_CLUSTER * CLUSTER_BYTES), 40);
  header.writeBigUInt64BE(BigInt(REFCOUNT_TABLE_CLUSTER * CLUSTER_BYTES), 48);
  header.writeUInt32BE(1, 56);
  header.writeUInt32BE(4, 96);
  header.writeUInt32BE(HEADER_BYTES, 100);
  header.writeUInt32BE(EXTENSION_BACKING_FORMAT, HEADER_BYTES);
  header.writeUInt32BE(format.length, HEADER_BYTES + 4);
  header.set(format, HEADER_BYTES + 8);
  header.set(name, nameOffset);
  return header;
}

function l1Entries(diskBytes: number): number {
  return Math.ceil(diskBytes / BYTES_PER_L1_ENTRY);
}

function l1Clusters(diskBytes: number): number {
  return Math.ceil((l1Entries(diskBytes) * 8) / CLUSTER_BYTES);
}
