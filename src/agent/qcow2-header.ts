/**
 * The first bytes of a qcow2 image: enough to tell whether it can keep bitmaps and how long its disk is. Read without
 * opening the image, so it can be asked of an image that is in use.
 *
 *   offset  bytes  field
 *        0      4  magic "QFI\xfb"
 *        4      4  version: 2 for compat 0.10, 3 for compat 1.1
 *       24      8  length of the disk in bytes
 *
 * Source: QEMU's docs/interop/qcow2.txt.
 */
import { open } from 'node:fs/promises';
import { Failure } from '#/lib/failure.ts';

const MAGIC = 0x514649fb;
const HEADER_BYTES = 32;
export const VERSION_WITH_BITMAPS = 3;

export type Qcow2Header = { version: number; diskBytes: number };

/** Undefined when the file is no qcow2 image. Throws storage_io. */
export async function readQcow2Header(path: string): Promise<Qcow2Header | undefined> {
  try {
    await using file = await open(path, 'r');
    const header = Buffer.alloc(HEADER_BYTES);
    const { bytesRead } = await file.read(header, 0, HEADER_BYTES, 0);
    if (bytesRead < HEADER_BYTES || header.readUInt32BE(0) !== MAGIC) return undefined;
    return { version: header.readUInt32BE(4), diskBytes: Number(header.readBigUInt64BE(24)) };
  } catch (error) {
    throw new Failure('storage_io', `read the header of ${path}`, { cause: error });
  }
}
