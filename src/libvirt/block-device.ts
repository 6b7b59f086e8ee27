/** One disk of a domain: its sizes, its counters, its block jobs. Bandwidths are bytes a second, 0 is no limit. */
import type { CallOptions } from './connection.ts';
import {
  BLOCK_COMMIT_BANDWIDTH_BYTES,
  BLOCK_JOB_INFO_BANDWIDTH_BYTES,
  BLOCK_PULL_BANDWIDTH_BYTES,
  BLOCK_RESIZE_BYTES,
  BlockCommitFlag,
  BlockJobAbortFlag,
  flagBits,
} from './flags.ts';
import type { FlagNames } from './flags.ts';
import { Procedure } from './procedures.ts';
import { nothing } from './remote.ts';
import type { Ask, Subject } from './remote.ts';
import type { XdrReader } from './xdr.ts';

/** `allocationBytes` is the highest byte written in the image, `physicalBytes` the length of its container. */
export type BlockSizes = { capacityBytes: number; allocationBytes: number; physicalBytes: number };

export type BlockCounters = {
  readRequests: number;
  readBytes: number;
  writeRequests: number;
  writtenBytes: number;
  errors: number;
};

const JOB_KINDS = ['unknown', 'pull', 'copy', 'commit', 'active-commit', 'backup'] as const;

export type BlockJobKind = (typeof JOB_KINDS)[number];

/** `currentUnits` of `endUnits` are done; a job whose both are 0 has not begun to count. */
export type BlockJobProgress = {
  kind: BlockJobKind;
  bandwidthBytes: number;
  currentUnits: number;
  endUnits: number;
};

export type BlockCommitOptions = CallOptions & {
  /** The image that is written to; the deepest when absent. */
  base?: string;
  /** The topmost image that goes away; the active one when absent. */
  top?: string;
  bandwidthBytes?: number;
};

export class BlockDevice {
  readonly #subject: Subject;
  readonly #target: string;

  constructor(subject: Subject, target: string) {
    this.#subject = subject;
    this.#target = target;
  }

  getSizes(options?: CallOptions): Promise<BlockSizes> {
    const decode = (r: XdrReader): BlockSizes => {
      const [allocationBytes, capacityBytes, physicalBytes] = [r.uhyper(), r.uhyper(), r.uhyper()];
      return { capacityBytes, allocationBytes, physicalBytes };
    };
    return this.#ask(
      'read the sizes of',
      { procedure: Procedure.domainGetBlockInfo, flags: 0, decode },
      options,
    );
  }

  getCounters(options?: CallOptions): Promise<BlockCounters> {
    const decode = (r: XdrReader): BlockCounters => ({
      readRequests: r.hyperRounded(),
      readBytes: r.hyperRounded(),
      writeRequests: r.hyperRounded(),
      writtenBytes: r.hyperRounded(),
      errors: r.hyperRounded(),
    });
    return this.#ask('read the counters of', { procedure: Procedure.domainBlockStats, decode }, options);
  }

  async resize(bytes: number, options?: CallOptions): Promise<void> {
    const ask: Ask<undefined> = {
      procedure: Procedure.domainBlockResize,
      encode: (w) => w.uhyper(bytes),
      flags: BLOCK_RESIZE_BYTES,
      decode: nothing,
    };
    await this.#ask('resize', ask, options);
  }

  /** Begins to copy the backing images into the active one; the event `block-job` tells the end. */
  async pull(bandwidthBytes = 0, options?: CallOptions): Promise<void> {
    const ask: Ask<undefined> = {
      procedure: Procedure.domainBlockPull,
      encode: (w) => w.uhyper(bandwidthBytes),
      flags: BLOCK_PULL_BANDWIDTH_BYTES,
      decode: nothing,
    };
    await this.#ask('begin a block pull of', ask, options);
  }

  /** Begins to write images into the one below; committing the active one (`active`) ends by a pivot. */
  async commit(flags: FlagNames<typeof BlockCommitFlag>, options: BlockCommitOptions = {}): Promise<void> {
    const { base, top, bandwidthBytes = 0 } = options;
    const ask: Ask<undefined> = {
      procedure: Procedure.domainBlockCommit,
      encode: (w) => w.optionalString(base).optionalString(top).uhyper(bandwidthBytes),
      flags: flagBits(BlockCommitFlag, flags) | BLOCK_COMMIT_BANDWIDTH_BYTES,
      decode: nothing,
    };
    await this.#ask('begin a block commit of', ask, options);
  }

  /** `undefined` when no job is under way. */
  getJob(options?: CallOptions): Promise<BlockJobProgress | undefined> {
    const ask = {
      procedure: Procedure.domainGetBlockJobInfo,
      flags: BLOCK_JOB_INFO_BANDWIDTH_BYTES,
      decode: decodeBlockJob,
    };
    return this.#ask('read the block job of', ask, options);
  }

  /** Ends the block job: with `pivot` by using the copy, with `async` without waiting. */
  async abortJob(flags: FlagNames<typeof BlockJobAbortFlag> = [], options?: CallOptions): Promise<void> {
    const bits = flagBits(BlockJobAbortFlag, flags);
    const ask: Ask<undefined> = { procedure: Procedure.domainBlockJobAbort, flags: bits, decode: nothing };
    await this.#ask('end the block job of', ask, options);
  }

  /** The event `block-threshold` comes once when a write passes this offset of the image; 0 takes it back. */
  async setThreshold(thresholdBytes: number, options?: CallOptions): Promise<void> {
    const ask: Ask<undefined> = {
      procedure: Procedure.domainSetBlockThreshold,
      encode: (w) => w.uhyper(thresholdBytes),
      flags: 0,
      decode: nothing,
    };
    await this.#ask('set the write threshold of', ask, options);
  }

  #ask<T>(verb: string, ask: Ask<T>, options?: CallOptions): Promise<T> {
    const encode: Ask<T>['encode'] = (writer) => {
      writer.string(this.#target);
      ask.encode?.(writer);
    };
    return this.#subject.ask(`${verb} disk ${this.#target} of`, { ...ask, encode }, options);
  }
}

/** The daemon says whether there is a job in a field of its own; the others are zero when there is none. */
export function decodeBlockJob(reader: XdrReader): BlockJobProgress | undefined {
  const found = reader.int();
  const kind = JOB_KINDS[reader.int()] ?? 'unknown';
  const [bandwidthBytes, currentUnits, endUnits] = [reader.uhyper(), reader.uhyper(), reader.uhyper()];
  return found === 0 ? undefined : { kind, bandwidthBytes, currentUnits, endUnits };
}
