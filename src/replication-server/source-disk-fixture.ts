/** For tests: a source of recovery points that speaks the wire protocol, and the bytes that come of them. */
import { execFile } from 'node:child_process';
import { hash, randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import assert from 'node:assert/strict';
import { promisify } from 'node:util';
import { digestBlocks } from '#/disk/digest.ts';
import { nextLevel, rootFromLevel1 } from '#/disk/digest-tree.ts';
import type { ReplicaSession } from '#/replication/link.ts';
import { encodeSegment } from '#/wire/segment.ts';
import { DISK, type RealServer } from './real-server-fixture.ts';

const run = promisify(execFile);
const BLOCK = 4096;

/** The source's disk, with what it says about itself. */
export class SourceDisk {
  readonly bytes = new Uint8Array(DISK.bytes);

  change(first: number, count: number): void {
    this.bytes.set(randomBytes(count * BLOCK), first * BLOCK);
  }

  segment({ opened }: ReplicaSession, first: number, count: number): Uint8Array {
    const payload = this.bytes.slice(first * BLOCK, (first + count) * BLOCK);
    const runs = [{ first, count }];
    return encodeSegment({
      kind: 'data',
      disk: 0,
      runs,
      digests: digestBlocks(opened.digestKey, payload),
      encoding: 'raw',
      payload,
    });
  }

  root({ opened }: ReplicaSession): string {
    return rootFromLevel1(nextLevel(digestBlocks(opened.digestKey, this.bytes)));
  }
}

export function stampOf(sequence: number): string {
  return sequence.toString(16).padStart(32, '0');
}

export const DEFINITION = new TextEncoder().encode('<domain><name>ledger</name></domain>');

/** Sends one point of `ranges` and has it acknowledged. */
export async function replicate(
  session: ReplicaSession,
  disk: SourceDisk,
  sequence: number,
  ranges: [number, number][],
) {
  const base = sequence > 1 ? { base: { sequence: sequence - 1, stamp: stampOf(sequence - 1) } } : {};
  const stamp = stampOf(sequence);
  let index = await session.begin({ sequence, stamp, momentMs: sequence * 1000, ...base, disks: [DISK] });
  for (const [first, count] of ranges.slice(index))
    await session.segment(index++, disk.segment(session, first, count));
  const attachment = {
    kind: 'definition' as const,
    sha256: hash('sha256', DEFINITION),
    bytes: DEFINITION.length,
  };
  for (const sha256 of await session.offerAttachments([attachment]))
    await session.attachment(sha256, DEFINITION);
  const commit = { stamp, segmentCount: index, roots: [disk.root(session)], attachments: [attachment] };
  return await session.commit({ ...commit, consistency: 'crash' });
}

/** The bytes of a view's disk, as nbdcopy reads them from its socket. */
export async function exported(server: RealServer, taskId: string): Promise<Uint8Array> {
  const uri = `nbd+unix:///${DISK.key}?socket=${join(server.directory, 'run/views', taskId, 'nbd.sock')}`;
  const { stdout } = await run('nbdinfo', ['--json', uri]);
  assert.match(stdout, new RegExp(`"export-size": ${DISK.bytes}`));
  const path = join(server.directory, `${taskId}.raw`);
  await run('nbdcopy', [uri, path]);
  return new Uint8Array(await readFile(path));
}
