/**
 * An export of an NBD server as a Disk, over as many connections as the server says are coherent.
 *
 * Invariants: a read fills the caller's memory without a copy of ours; a failed read fails alone; when one connection
 * is lost the disk is (`unreachable`), and whoever owns it connects anew.
 */
import { strict as assert } from 'node:assert';
import { checkRange } from '#/disk/check-range.ts';
import type { Disk, Extent } from '#/disk/disk.ts';
import { Failure } from '#/lib/failure.ts';
import { askAvailableContexts, askExports, type ExportInfo, type ListedExport } from './client-handshake.ts';
import { CONNECTIONS_MAX, READ_PIECE_BYTES, STATUS_SPAN_BYTES_MAX, STATUS_SPAN_BYTES_MIN } from './limits.ts';
import { addressText, NbdConnection, type NbdAddress } from './nbd-connection.ts';
import type { StatusExtent } from './pending-reply.ts';
import { BASE_ALLOCATION, DIRTY_BITMAP_PREFIX, STATE, STATE_DIRTY } from './protocol.ts';

export type NbdDiskOptions = {
  address: NbdAddress;
  exportName: string;
  /** Name of the dirty bitmap to ask for; `not_found` when the export has none of this name. */
  dirtyBitmap?: string;
  /** Most connections; one when the server does not promise coherence. Default 1. */
  connections?: number;
};

export type DirtyExtent = { offset: number; length: number; isDirty: boolean };

export class NbdDisk implements Disk {
  readonly #connections: NbdConnection[];
  readonly #dirtyContext: string | undefined;
  #statusSpanBytes = STATUS_SPAN_BYTES_MIN;

  /** Throws `unreachable`, `timeout`, `not_found`, `protocol_corrupt`, `protocol_unsupported` or `nbd_error`. */
  static async connect(options: NbdDiskOptions, signal?: AbortSignal): Promise<NbdDisk> {
    const wanted = Math.min(options.connections ?? 1, CONNECTIONS_MAX);
    const dirtyContext =
      options.dirtyBitmap === undefined ? undefined : DIRTY_BITMAP_PREFIX + options.dirtyBitmap;
    const contexts = dirtyContext === undefined ? [BASE_ALLOCATION] : [BASE_ALLOCATION, dirtyContext];
    const request = { exportName: options.exportName, contexts };
    const connections = [await NbdConnection.open(options.address, request, signal)];
    try {
      const { info } = connections[0]!;
      checkExport(options, info, dirtyContext);
      while (info.canMultiConn && connections.length < wanted) {
        const next = await NbdConnection.open(options.address, request, signal);
        connections.push(next);
        if (!isSameExport(info, next.info)) {
          throw new Failure('protocol_corrupt', `${what(options)}: two connections see different exports`);
        }
      }
      return new NbdDisk(connections, dirtyContext);
    } catch (error) {
      await Promise.all(connections.map((connection) => connection[Symbol.asyncDispose]()));
      throw error;
    }
  }

  private constructor(connections: NbdConnection[], dirtyContext: string | undefined) {
    this.#connections = connections;
    this.#dirtyContext = dirtyContext;
  }

  get bytes(): number {
    return this.info.bytes;
  }

  /** What the server said about the export. */
  get info(): ExportInfo {
    return this.#connections[0]!.info;
  }

  get connectionCount(): number {
    return this.#connections.length;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.length);
    signal?.throwIfAborted();
    const { blockMin, blockMax } = this.info;
    if (offset % blockMin !== 0 || target.length % blockMin !== 0) {
      await this.#readUnaligned(offset, target, signal);
      return;
    }
    const pieceBytes = Math.min(READ_PIECE_BYTES, blockMax - (blockMax % blockMin));
    if (target.length <= pieceBytes) {
      if (target.length > 0) await this.#readPiece(offset, target, signal);
      return;
    }
    const pieces: Promise<void>[] = [];
    for (let at = 0; at < target.length; at += pieceBytes) {
      pieces.push(this.#readPiece(offset + at, target.subarray(at, at + pieceBytes), signal));
    }
    // All of them, so that nobody writes to the target after this returned.
    const failed = (await Promise.allSettled(pieces)).find((piece) => piece.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  async extents(offset: number, length: number, signal?: AbortSignal): Promise<Extent[]> {
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    if (length === 0) return [];
    if (!this.#has(BASE_ALLOCATION)) return [{ offset, length, kind: 'data' }];
    const status = await this.#status(BASE_ALLOCATION, { offset, length }, signal);
    // A hole without the zero flag may read as anything.
    const kindOf = (flags: number): Extent['kind'] => ((flags & STATE.zero) !== 0 ? 'zero' : 'data');
    return joined(
      status.map((run) => ({ offset: run.offset, length: run.length, kind: kindOf(run.flags) })),
      'kind',
    );
  }

  /** Like `extents`, for the dirty bitmap that was asked for at `connect`. */
  async dirtyExtents(offset: number, length: number, signal?: AbortSignal): Promise<DirtyExtent[]> {
    assert(this.#dirtyContext !== undefined, 'no dirty bitmap was asked for');
    checkRange(this, offset, length);
    signal?.throwIfAborted();
    if (length === 0) return [];
    const status = await this.#status(this.#dirtyContext, { offset, length }, signal);
    const isDirty = (flags: number): boolean => (flags & STATE_DIRTY) !== 0;
    return joined(
      status.map((run) => ({ offset: run.offset, length: run.length, isDirty: isDirty(run.flags) })),
      'isDirty',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#connections.map((connection) => connection[Symbol.asyncDispose]()));
  }

  async #readPiece(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#connection().read(offset, target, signal);
  }

  /** Reads the blocks around the range into memory of our own. */
  async #readUnaligned(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { blockMin, blockMax } = this.info;
    const stepBytes = Math.min(READ_PIECE_BYTES, blockMax - (blockMax % blockMin));
    const end = offset + target.length;
    for (let at = offset - (offset % blockMin); at < end; at += stepBytes) {
      const blockEnd = Math.ceil(Math.min(end, at + stepBytes) / blockMin) * blockMin;
      const piece = new Uint8Array(Math.min(blockEnd, this.bytes) - at);
      await this.#readPiece(at, piece, signal);
      const from = Math.max(offset, at);
      target.set(piece.subarray(from - at, Math.min(end, at + piece.length) - at), from - offset);
    }
  }

  /** The runs of one context that start at `offset`, cut to the range. */
  async #status(
    context: string,
    { offset, length }: { offset: number; length: number },
    signal?: AbortSignal,
  ): Promise<StatusExtent[]> {
    const { blockMin } = this.info;
    const start = offset - (offset % blockMin);
    const end = Math.min(offset + length, start + this.#statusSpanBytes);
    const aligned = Math.min(Math.ceil(end / blockMin) * blockMin, this.bytes) - start;
    const status = await this.#connection().blockStatus(start, aligned, signal);
    // A fragmented range is asked for in parts no longer than what one reply keeps; an even one in ever longer parts.
    this.#statusSpanBytes = status.isTruncated
      ? STATUS_SPAN_BYTES_MIN
      : Math.min(this.#statusSpanBytes * 2, STATUS_SPAN_BYTES_MAX);
    const runs: StatusExtent[] = [];
    for (const run of status.contexts.get(context) ?? []) {
      const from = Math.max(run.offset, offset);
      const to = Math.min(run.offset + run.length, offset + length);
      if (to > from) runs.push({ offset: from, length: to - from, flags: run.flags });
    }
    if (runs.length === 0)
      throw new Failure('protocol_corrupt', `${context} at ${offset}: the server said nothing`);
    return runs;
  }

  #has(context: string): boolean {
    return [...this.info.contexts.values()].includes(context);
  }

  /** The least busy connection. A lost one fails the disk. */
  #connection(): NbdConnection {
    let least = this.#connections[0]!;
    for (const connection of this.#connections) {
      if (connection.failure !== undefined) throw connection.failure;
      if (connection.loadBytes < least.loadBytes) least = connection;
    }
    return least;
  }
}

/** Names and descriptions of a server's exports. */
export function listExports(address: NbdAddress, signal?: AbortSignal): Promise<ListedExport[]> {
  return NbdConnection.query(address, askExports, signal);
}

/** Names of the meta contexts that an export offers. */
export function listContexts(
  address: NbdAddress,
  exportName: string,
  signal?: AbortSignal,
): Promise<string[]> {
  return NbdConnection.query(address, (channel) => askAvailableContexts(channel, exportName), signal);
}

function checkExport(options: NbdDiskOptions, info: ExportInfo, dirtyContext: string | undefined): void {
  if (info.bytes % 512 !== 0) {
    throw new Failure(
      'protocol_unsupported',
      `${what(options)}: ${info.bytes} bytes are no whole 512-byte sectors`,
    );
  }
  if (dirtyContext !== undefined && ![...info.contexts.values()].includes(dirtyContext)) {
    throw new Failure(
      'not_found',
      `${what(options)}: there is no dirty bitmap ${JSON.stringify(options.dirtyBitmap)}`,
    );
  }
}

function isSameExport(a: ExportInfo, b: ExportInfo): boolean {
  return a.bytes === b.bytes && a.isStructured === b.isStructured && a.contexts.size === b.contexts.size;
}

function what(options: NbdDiskOptions): string {
  return `open the NBD export ${JSON.stringify(options.exportName)} of ${addressText(options.address)}`;
}

/** Neighbours of the same kind become one. */
function joined<
  K extends 'kind' | 'isDirty',
  T extends { offset: number; length: number } & Record<K, unknown>,
>(runs: T[], key: K): T[] {
  const out: T[] = [];
  for (const run of runs) {
    const last = out.at(-1);
    if (last !== undefined && last[key] === run[key]) last.length += run.length;
    else out.push(run);
  }
  return out;
}
