/**
 * One request in flight as the reader of replies sees it: where its bytes go, and what was answered so far.
 *
 * Invariant: a read succeeds only when every byte of it was answered exactly once; a block status only when every
 * chunk stayed inside the question.
 */
import { Failure } from '#/lib/failure.ts';
import { EXTENTS_MAX } from '#/disk/disk.ts';
import { Coverage } from './coverage.ts';
import { errnoName } from './protocol.ts';

/** A run of one meta context's flags. */
export type StatusExtent = { offset: number; length: number; flags: number };

export type RemoteError = { errno: number; message: string; offset: number | undefined };

abstract class Pending {
  readonly offset: number;
  readonly length: number;
  error: RemoteError | undefined;

  constructor(offset: number, length: number) {
    this.offset = offset;
    this.length = length;
  }

  /** The failure of this request alone when the server sent its last chunk, `undefined` when it is complete. */
  outcome(): Failure | undefined {
    if (this.error === undefined) return this.gap();
    const { errno, message, offset } = this.error;
    const at = offset === undefined ? '' : ` at ${offset}`;
    const said = message === '' ? errnoName(errno) : `${errnoName(errno)}, saying ${JSON.stringify(message)}`;
    const cause = new Error(`server answered${at}: ${said}`);
    return new Failure('nbd_error', `${this.verb} ${this.length} bytes at ${this.offset} over NBD`, {
      cause,
    });
  }

  abstract readonly verb: string;
  /** A breach of the protocol when the answer leaves something open. Thrown by the reader: it ends the connection. */
  protected abstract gap(): Failure | undefined;
}

export class PendingRead extends Pending {
  readonly kind = 'read';
  readonly verb = 'read';
  /** Where the bytes go; undefined once the caller gave up and the bytes are thrown away. */
  target: Uint8Array | undefined;
  readonly #coverage = new Coverage();

  constructor(offset: number, target: Uint8Array) {
    super(offset, target.length);
    this.target = target;
  }

  /** Accounts for an answer of `length` bytes at `offset` of the export; false when it may not be there. */
  cover(offset: number, length: number): boolean {
    const start = offset - this.offset;
    if (start < 0 || length < 1 || start + length > this.length) return false;
    return this.#coverage.add(start, start + length);
  }

  protected gap(): Failure | undefined {
    if (this.#coverage.isComplete(this.length)) return undefined;
    return new Failure('protocol_corrupt', `read ${this.length} bytes at ${this.offset}: the reply has gaps`);
  }
}

/** One context's extents, joined where flags repeat; only the first EXTENTS_MAX are kept. */
export class StatusList {
  readonly extents: StatusExtent[] = [];
  isTruncated = false;
  #end: number;

  constructor(offset: number) {
    this.#end = offset;
  }

  get end(): number {
    return this.#end;
  }

  add(length: number, flags: number): void {
    const last = this.extents.at(-1);
    if (this.isTruncated) return;
    if (last?.flags === flags) last.length += length;
    else if (this.extents.length < EXTENTS_MAX) this.extents.push({ offset: this.#end, length, flags });
    else {
      this.isTruncated = true;
      return;
    }
    this.#end += length;
  }
}

export class PendingStatus extends Pending {
  readonly kind = 'status';
  readonly verb = 'ask for the block status of';
  /** By context id. */
  readonly lists = new Map<number, StatusList>();
  readonly #contextCount: number;

  constructor(offset: number, length: number, contextCount: number) {
    super(offset, length);
    this.#contextCount = contextCount;
  }

  protected gap(): Failure | undefined {
    if (this.lists.size === this.#contextCount) return undefined;
    const what = `${this.lists.size} of ${this.#contextCount} meta contexts answered`;
    return new Failure('protocol_corrupt', `ask for the block status at ${this.offset}: ${what}`);
  }
}

export type PendingReply = PendingRead | PendingStatus;
