/**
 * A storage medium: files and names as programs see them now, and as they would be found after a power loss.
 *
 * The fault model (docs/simulation.md): an unsynced change is kept, lost or torn, each on its own; an unsynced name
 * is kept or lost; a failed sync leaves what it covered in doubt for ever, even when a later sync of the same file
 * succeeds. A program that is killed loses nothing, but nothing becomes durable by that either.
 */
import assert from 'node:assert/strict';
import { chance, integerBelow } from '#/lib/random.ts';
import type { Random } from '#/lib/random.ts';
import { ByteImage } from './byte-image.ts';
import type { FileChange } from './byte-image.ts';
import { pick } from './chance.ts';

type PendingChange = { order: number; change: FileChange };
type NameChange = { drop?: string; set?: { name: string; node: MediumNode } };
type PendingName = { order: number; change: NameChange };

export class MediumFile {
  current = new ByteImage();
  durable = new ByteImage();
  pending: PendingChange[] = [];
}

export class MediumDirectory {
  current = new Map<string, MediumNode>();
  durable = new Map<string, MediumNode>();
  pending: PendingName[] = [];
}

export type MediumNode = MediumFile | MediumDirectory;
type Survival = 'all' | 'none' | 'mixed';

export class Medium {
  #root = new MediumDirectory();
  #order = 0;
  capacityBytes = 2 ** 40;

  get root(): MediumDirectory {
    return this.#root;
  }

  /** A number above that of every change so far: what a sync that starts now covers. */
  mark(): number {
    return this.#order;
  }

  change(file: MediumFile, change: FileChange): void {
    file.current.apply(change);
    file.pending.push({ order: this.#order++, change });
  }

  name(directory: MediumDirectory, change: NameChange): void {
    applyName(directory.current, change);
    directory.pending.push({ order: this.#order++, change });
  }

  syncFile(file: MediumFile, mark: number): void {
    for (const { change } of takeBefore(file.pending, mark)) file.durable.apply(change);
  }

  /** A sync that fails: the system drops what it could not write, and no later sync writes it. */
  failSync(file: MediumFile, mark: number, random: Random): void {
    for (const { change } of takeBefore(file.pending, mark)) {
      if (chance(random, 0.5)) file.durable.apply(change);
    }
  }

  syncNames(directory: MediumDirectory, mark: number): void {
    for (const { change } of takeBefore(directory.pending, mark)) applyName(directory.durable, change);
  }

  usedBytes(): number {
    let bytes = 0;
    for (const file of this.files().values()) bytes += file.current.storedBytes;
    return bytes;
  }

  /** All files that have a name now, by path. */
  files(): Map<string, MediumFile> {
    const found = new Map<string, MediumFile>();
    const visit = (directory: MediumDirectory, prefix: string): void => {
      for (const [name, node] of directory.current) {
        if (node instanceof MediumFile) found.set(prefix + name, node);
        else visit(node, `${prefix}${name}/`);
      }
    };
    visit(this.#root, '');
    return found;
  }

  /** Turns one bit of a file around, in memory and at rest. */
  flipBit(file: MediumFile, bit: number): void {
    for (const image of [file.current, file.durable]) {
      const offset = Math.floor(bit / 8);
      if (offset >= image.bytes) continue;
      const byte = new Uint8Array(1);
      image.read(offset, byte);
      image.apply({ kind: 'write', offset, bytes: byte.map((value) => value ^ (1 << (bit % 8))) });
    }
  }

  /** A medium of its own with the same past; `crash` it to see what a power loss now would leave. */
  clone(): Medium {
    const copies = new Map<MediumNode, MediumNode>();
    const copyOf = (node: MediumNode): MediumNode => {
      const known = copies.get(node);
      if (known) return known;
      return node instanceof MediumFile ? this.#copyFile(node, copies) : copyDirectory(node);
    };
    const copyDirectory = (directory: MediumDirectory): MediumDirectory => {
      const copy = new MediumDirectory();
      copies.set(directory, copy);
      for (const [name, node] of directory.current) copy.current.set(name, copyOf(node));
      for (const [name, node] of directory.durable) copy.durable.set(name, copyOf(node));
      copy.pending = directory.pending.map(({ order, change: { drop, set } }) => ({
        order,
        change: {
          ...(drop !== undefined && { drop }),
          ...(set && { set: { ...set, node: copyOf(set.node) } }),
        },
      }));
      return copy;
    };
    const medium = new Medium();
    medium.#root = copyDirectory(this.#root);
    medium.#order = this.#order;
    medium.capacityBytes = this.capacityBytes;
    return medium;
  }

  /** Power loss: what was not synced is kept, lost or torn. */
  crash(random: Random): void {
    const survival = pick<Survival>(random, ['none', 'none', 'all', 'mixed', 'mixed', 'mixed']);
    const visit = (directory: MediumDirectory): void => {
      for (const { change } of directory.pending) {
        if (survives(survival, random)) applyName(directory.durable, change);
      }
      directory.pending = [];
      directory.current = new Map(directory.durable);
      for (const node of directory.durable.values()) {
        if (node instanceof MediumFile) crashFile(node, survival, random);
        else visit(node);
      }
    };
    visit(this.#root);
  }

  #copyFile(file: MediumFile, copies: Map<MediumNode, MediumNode>): MediumFile {
    const copy = new MediumFile();
    copy.current = file.current.clone();
    copy.durable = file.durable.clone();
    copy.pending = [...file.pending];
    copies.set(file, copy);
    return copy;
  }
}

function survives(survival: Survival, random: Random): boolean {
  return survival === 'all' || (survival === 'mixed' && chance(random, 0.5));
}

function crashFile(file: MediumFile, survival: Survival, random: Random): void {
  for (const { change } of file.pending) {
    if (survives(survival, random)) file.durable.apply(change);
    else if (survival === 'mixed' && change.kind === 'write') tear(file.durable, change, random);
  }
  file.pending = [];
  file.current = file.durable.clone();
}

/** Some sectors of a write arrive, others do not; the file may have grown all the same. */
function tear(image: ByteImage, write: FileChange & { kind: 'write' }, random: Random): void {
  const unit = pick(random, [512, 4096]);
  const isPrefix = chance(random, 0.5);
  const cut = integerBelow(random, write.bytes.length + 1);
  const end = write.offset + write.bytes.length;
  for (let at = write.offset; at < end;) {
    const stop = Math.min(end, (Math.floor(at / unit) + 1) * unit);
    const isKept = isPrefix ? stop - write.offset <= cut : chance(random, 0.5);
    const bytes = write.bytes.subarray(at - write.offset, stop - write.offset);
    if (isKept) image.apply({ kind: 'write', offset: at, bytes });
    at = stop;
  }
  if (image.bytes < end && chance(random, 0.5)) image.apply({ kind: 'truncate', bytes: end });
}

function applyName(names: Map<string, MediumNode>, change: NameChange): void {
  if (change.drop !== undefined) names.delete(change.drop);
  if (change.set) names.set(change.set.name, change.set.node);
}

function takeBefore<T extends { order: number }>(pending: T[], mark: number): T[] {
  const count = pending.findIndex((item) => item.order >= mark);
  const taken = pending.splice(0, count < 0 ? pending.length : count);
  assert(taken.every((item) => item.order < mark));
  return taken;
}
