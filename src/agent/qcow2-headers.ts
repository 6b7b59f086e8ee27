/**
 * Headers of images, not read again while nothing was written to their files: every cycle asks for each disk's.
 *
 * A file's times tell of every later write once they are older than their own coarseness; until then, and for block
 * devices, whose times tell nothing, the header is read.
 */
import type { Stats } from 'node:fs';
import { readQcow2Header, type Qcow2Header } from './qcow2-header.ts';

/** File systems count time in steps of a few milliseconds, some of two seconds. */
const SETTLED_MS = 3_000;
/** Disks of the VMs of one host. */
const HEADERS_MAX = 4096;

type Known = { print: string; header: Qcow2Header | undefined };

const headers = new Map<string, Known>();

/** `stats` are of the file, taken before. Throws storage_io. */
export async function headerOfFile(
  path: string,
  stats: Stats,
  nowMs: number = Date.now(),
): Promise<Qcow2Header | undefined> {
  const { dev, ino, size, mtimeMs, ctimeMs } = stats;
  const print = `${dev}:${ino}:${size}:${mtimeMs}:${ctimeMs}`;
  const known = headers.get(path);
  if (known?.print === print) return known.header;
  const header = await readQcow2Header(path);
  const isSettled = stats.isFile() && nowMs - Math.max(mtimeMs, ctimeMs) > SETTLED_MS;
  headers.delete(path);
  if (isSettled) headers.set(path, { print, header });
  for (const oldest of headers.keys()) {
    if (headers.size <= HEADERS_MAX) break;
    headers.delete(oldest);
  }
  return header;
}
