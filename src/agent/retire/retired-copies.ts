/**
 * Old copies that make room for their VM, which comes back to this host: the definition is kept in a file of ours,
 * `retired/TASK.json` in the agent's `data_directory`, and undefined; disks, firmware variables and TPM state stay.
 *
 * Invariant: the file is on disk before anything is undefined, and goes only after the definition is back, or after a
 * person had the copy removed. Only a copy that has yielded, and does not run, is ever retired.
 */
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Type, type Static } from 'typebox';
import { Check } from 'typebox/value';
import { RetiredReport, RETIRED_MAX } from '#/control/retire-tasks.ts';
import type { Clock } from '#/lib/clock.ts';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { hasLibvirtCode, LibvirtCode } from '#/libvirt/errors.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import { epochMarkIn } from '#/recovery/epoch-mark.ts';
import { HandoverStates, handoversIn } from '#/agent/handover/handover-state.ts';
import { isOff } from '#/agent/sign-of-life.ts';
import { readMark } from '#/agent/yield-copy.ts';

const FILE_NAME = /^([0-9a-z-]+)\.json$/;
const Kept = Type.Object(
  { version: Type.Literal(1), report: RetiredReport, xml: Type.String({ maxLength: 1024 * 1024 }) },
  { additionalProperties: false },
);
type Kept = Static<typeof Kept>;

export type RetiredParts = {
  dataDirectory: string;
  tpmDirectory: string;
  clock: Clock;
  changed: () => void;
};

export class RetiredCopies {
  readonly #parts: RetiredParts;
  readonly #directory: string;
  readonly #handovers: HandoverStates;
  readonly #kept = new Map<string, Kept>();

  constructor(parts: RetiredParts) {
    this.#parts = parts;
    this.#directory = join(parts.dataDirectory, 'retired');
    this.#handovers = new HandoverStates(handoversIn(parts.dataDirectory));
  }

  /** Resolves with what could not be read. */
  async load(): Promise<Failure[]> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const failures: Failure[] = [];
    for (const name of await readdir(this.#directory)) {
      const id = FILE_NAME.exec(name)?.[1];
      if (id === undefined) continue;
      try {
        await this.#find(id);
      } catch (error) {
        const failure = failureIn(error);
        if (failure === undefined) throw error;
        failures.push(failure);
      }
    }
    return failures;
  }

  reports(): RetiredReport[] {
    return [...this.#kept.values()].map(({ report }) => report).slice(0, RETIRED_MAX);
  }

  /** Puts the copy aside for the task `id`. Resolves with words about it. Throws conflict when it may run. */
  async retire(id: string, domain: Domain): Promise<string> {
    const { yielded } = await readMark(domain);
    if (yielded === undefined) {
      throw new Failure('already_exists', `retire VM ${domain.name}: this copy has not yielded to any site`, {
        hint: 'It is another VM of that name, or somebody removed its mark: rename or remove it.',
      });
    }
    const notes = ['its disks stay where they are'];
    const state = await domain.getState();
    if (!isOff(state)) {
      if (state.state !== 'paused') {
        throw new Failure('conflict', `retire VM ${domain.name}: it is ${state.state}`);
      }
      await domain.destroy(['graceful']);
      notes.push('it was paused, and its memory is gone');
    }
    const kept = await this.#describe(id, domain);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await writeDurableJson(this.#path(id), kept);
    this.#kept.set(id, kept);
    await this.#undefine(domain);
    await moveIfThere(this.#tpmPath(kept), this.#tpmAside(kept));
    this.#parts.changed();
    return notes.join('; ');
  }

  /** Whether the copy that made room for the task was started by itself with its host, before it went away. */
  async hadAutostart(id: string): Promise<boolean> {
    const kept = await this.#find(id);
    if (kept === undefined) return false;
    if (epochMarkIn(kept.xml)?.yielded?.hadAutostart === true) return true;
    // A planned migration turns it off before the copy yields.
    return (await this.#handovers.read(kept.report.vm_uuid))?.autostart === true;
  }

  /** The VM that came back starts by itself: what a handover remembers of its autostart is over. */
  async autostartIsBack(id: string): Promise<void> {
    const kept = await this.#find(id);
    if (kept !== undefined) await this.#handovers.remove(kept.report.vm_uuid);
  }

  async has(id: string): Promise<boolean> {
    return (await this.#find(id)) !== undefined;
  }

  /** Defines the copy again that was put aside for the task. False when there is none. */
  async restore(id: string, libvirt: Libvirt): Promise<boolean> {
    const kept = await this.#find(id);
    if (kept === undefined) return false;
    await moveIfThere(this.#tpmAside(kept), this.#tpmPath(kept));
    // Defining it again as it was changes nothing; another VM of its UUID was not made by us.
    await libvirt.defineDomain(kept.xml);
    await this.#forget(id);
    return true;
  }

  /** Removes the copy for good. Throws conflict while a VM of this host uses one of its files. */
  async remove(id: string, libvirt: Libvirt): Promise<Record<string, unknown>> {
    const kept = await this.#find(id);
    if (kept === undefined) return { removed: [] };
    const paths = kept.report.disks.map(({ path }) => path);
    const { nvramPath } = readDomainXml(kept.xml).firmware;
    if (nvramPath !== undefined) paths.push(nvramPath);
    for (const domain of await libvirt.listDomains()) {
      const xml = await domain.getXml(['inactive']);
      const used = paths.find((path) => xml.includes(`'${path}'`) || xml.includes(`>${path}<`));
      if (used === undefined) continue;
      throw new Failure('conflict', `remove retired copy ${id}: VM ${domain.name} uses ${used}`, {
        hint: 'Somebody has defined the copy again, or gave one of its disks to another VM.',
      });
    }
    for (const path of paths) await removeFile(path);
    await rm(this.#tpmAside(kept), { recursive: true, force: true });
    await this.#forget(id);
    return { removed: paths };
  }

  async #find(id: string): Promise<Kept | undefined> {
    const known = this.#kept.get(id);
    if (known !== undefined) return known;
    const value = await readDurableJson(this.#path(id));
    if (value === undefined) return undefined;
    if (!Check(Kept, value)) throw new Failure('storage_corrupt', `read ${this.#path(id)}: unknown form`);
    this.#kept.set(id, value);
    return value;
  }

  async #describe(id: string, domain: Domain): Promise<Kept> {
    const xml = await domain.getXml(['inactive', 'secure']);
    const definition = readDomainXml(xml);
    const disks: RetiredReport['disks'] = [];
    for (const disk of definition.disks) {
      // Block devices are not ours to remove, nor is what other VMs may use.
      const isOwn = disk.device === 'disk' && !disk.isReadOnly && !disk.isShareable;
      if (disk.source.kind !== 'file' || !isOwn) continue;
      const { path } = disk.source;
      const bytes = await stat(path).then(
        (found) => found.blocks * 512,
        () => 0,
      );
      disks.push({ key: disk.target, path, bytes });
    }
    const report = {
      id,
      vm_uuid: domain.uuid,
      vm_name: domain.name,
      retired_ms: this.#parts.clock.now(),
      disks,
    };
    return { version: 1, report, xml };
  }

  async #undefine(domain: Domain): Promise<void> {
    try {
      await domain.undefine([
        'managedSave',
        'snapshotsMetadata',
        'checkpointsMetadata',
        'keepNvram',
        'keepTpm',
      ]);
    } catch (error) {
      if (!hasLibvirtCode(error, LibvirtCode.noDomain)) throw error;
    }
  }

  async #forget(id: string): Promise<void> {
    await rm(this.#path(id), { force: true });
    this.#kept.delete(id);
    this.#parts.changed();
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }

  #tpmPath({ report }: Kept): string {
    return join(this.#parts.tpmDirectory, report.vm_uuid);
  }

  /** The VM that comes back has the same UUID, by which libvirt finds TPM state. */
  #tpmAside({ report }: Kept): string {
    return join(this.#parts.tpmDirectory, `${report.vm_uuid}.${report.id}`);
  }
}

async function moveIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new Failure('storage_io', `move ${from} to ${to}`, { cause });
  }
}

async function removeFile(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
  } catch (cause) {
    throw new Failure('storage_io', `remove ${path}`, { cause });
  }
}
