/**
 * Checkpoints of a domain: libvirt's names for dirty bitmaps in the disk images.
 *
 * libvirt's record of a checkpoint and QEMU's bitmap can part ways (a killed QEMU, an image that was replaced): then
 * `delete(['metadataOnly'])` removes the record alone, and `create` with `redefine` writes one for a bitmap that is
 * there.
 */
import type { CallOptions } from './connection.ts';
import {
  CheckpointCreateFlag,
  CheckpointDeleteFlag,
  CheckpointListFlag,
  CheckpointXmlFlag,
  flagBits,
} from './flags.ts';
import type { FlagNames } from './flags.ts';
import { hasLibvirtCode, LibvirtCode } from './errors.ts';
import { LIST_MAX } from './limits.ts';
import { Procedure } from './procedures.ts';
import { string, Subject } from './remote.ts';
import { decodeCheckpointRef, encodeCheckpointRef } from './remote-types.ts';
import type { CheckpointRef } from './remote-types.ts';
import type { XdrReader, XdrWriter } from './xdr.ts';

/** The checkpoints of one domain. */
export class DomainCheckpoints {
  readonly #subject: Subject;

  constructor(subject: Subject) {
    this.#subject = subject;
  }

  /** Without flags all of them; `topological` puts a parent before its children. */
  async list(flags: FlagNames<typeof CheckpointListFlag> = [], options?: CallOptions): Promise<Checkpoint[]> {
    const ask = {
      procedure: Procedure.domainListAllCheckpoints,
      encode: wantResults,
      flags: flagBits(CheckpointListFlag, flags),
      decode: decodeCheckpointList,
    };
    const refs = await this.#subject.ask('list the checkpoints of', ask, options);
    return refs.map((ref) => new Checkpoint(this.#subject, ref));
  }

  /** Creates the checkpoint of `checkpoint-xml.ts`. */
  async create(
    xml: string,
    flags: FlagNames<typeof CheckpointCreateFlag> = [],
    options?: CallOptions,
  ): Promise<Checkpoint> {
    const ask = {
      procedure: Procedure.checkpointCreateXml,
      encode: (w: XdrWriter) => w.string(xml),
      flags: flagBits(CheckpointCreateFlag, flags),
      decode: decodeCheckpointRef,
    };
    return new Checkpoint(this.#subject, await this.#subject.ask('create a checkpoint of', ask, options));
  }

  /** Throws libvirt's error `noCheckpoint` when there is none of that name. */
  async lookup(name: string, options?: CallOptions): Promise<Checkpoint> {
    const ask = {
      procedure: Procedure.checkpointLookupByName,
      encode: (w: XdrWriter) => w.string(name),
      flags: 0,
      decode: decodeCheckpointRef,
    };
    return new Checkpoint(this.#subject, await this.#subject.ask(`find checkpoint ${name} of`, ask, options));
  }
}

export class Checkpoint {
  readonly ref: CheckpointRef;
  readonly #owner: Subject;
  readonly #subject: Subject;

  constructor(owner: Subject, ref: CheckpointRef) {
    this.ref = ref;
    this.#owner = owner;
    const name = `checkpoint ${ref.name} of domain ${ref.domain.name}`;
    this.#subject = new Subject(owner.remote, name, (writer) => encodeCheckpointRef(writer, ref));
  }

  get name(): string {
    return this.ref.name;
  }

  /** With `bytes` the size of what changed since, disk by disk, for a running domain. */
  getXml(flags: FlagNames<typeof CheckpointXmlFlag> = [], options?: CallOptions): Promise<string> {
    const bits = flagBits(CheckpointXmlFlag, flags);
    return this.#subject.ask(
      'read',
      { procedure: Procedure.checkpointGetXml, flags: bits, decode: string },
      options,
    );
  }

  /** Merges its bitmap into its child's; `metadataOnly` leaves the bitmaps as they are. */
  delete(flags: FlagNames<typeof CheckpointDeleteFlag> = [], options?: CallOptions): Promise<void> {
    return this.#subject.act(
      'delete',
      Procedure.checkpointDelete,
      flagBits(CheckpointDeleteFlag, flags),
      options,
    );
  }

  /** `undefined` for a root. */
  async getParent(options?: CallOptions): Promise<Checkpoint | undefined> {
    const ask = { procedure: Procedure.checkpointGetParent, flags: 0, decode: decodeCheckpointRef };
    try {
      return new Checkpoint(this.#owner, await this.#subject.ask('find the parent of', ask, options));
    } catch (error) {
      if (hasLibvirtCode(error, LibvirtCode.noCheckpoint)) return undefined;
      throw error;
    }
  }

  /** Its children or, with `descendants`, all below it. */
  async listChildren(
    flags: FlagNames<typeof CheckpointListFlag> = [],
    options?: CallOptions,
  ): Promise<Checkpoint[]> {
    const ask = {
      procedure: Procedure.checkpointListAllChildren,
      encode: wantResults,
      flags: flagBits(CheckpointListFlag, flags),
      decode: decodeCheckpointList,
    };
    const refs = await this.#subject.ask('list the children of', ask, options);
    return refs.map((ref) => new Checkpoint(this.#owner, ref));
  }
}

function wantResults(writer: XdrWriter): void {
  writer.int(1);
}

function decodeCheckpointList(reader: XdrReader): CheckpointRef[] {
  const refs = reader.array(LIST_MAX, decodeCheckpointRef);
  reader.int();
  return refs;
}
