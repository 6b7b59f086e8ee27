/**
 * A moment of a powered-off VM: its images as they lie there, read through qemu-nbd.
 *
 * Nothing keeps them as they are, so nothing read is believed before `confirm` found that no file of any chain has
 * changed and that the VM is still off. A bitmap that QEMU closed cleanly tells what changed since its checkpoint,
 * and goes on to do so. Without one everything is compared, once: from then on the files' own times and places tell
 * that nothing has changed, as long as it is so.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import type { Moment, MomentAttachment, MomentDisk } from '#/replication/source.ts';
import { checkpointName, isStillId, stillId } from './checkpoint-names.ts';
import { fingerprint, readImageFacts, type ImageFacts } from './image-facts.ts';
import { momentAttachments } from './moment-attachments.ts';
import { ExportedDisk } from './moment-disk.ts';
import { findState, type MomentParts } from './moment-parts.ts';
import { protectedDisks, type ProtectedDisk } from './protected-disks.ts';
import { QemuNbd } from './qemu-nbd.ts';

type StoppedDisk = ProtectedDisk & { facts: ImageFacts; bitmap: string | undefined };

/** Throws tracking_lost, vm_unsupported, tool_failed, storage_io, libvirt_error, unreachable. */
export async function freezeStopped(parts: MomentParts): Promise<Moment> {
  const { options, domain, request, signal } = parts;
  const momentMs = options.clock.now();
  const xml = await domain.getXml(['inactive']);
  const definition = readDomainXml(xml);
  const disks: StoppedDisk[] = [];
  for (const disk of await protectedDisks(definition, request.disks)) {
    const facts = await readImageFacts(disk.path, signal);
    const bitmap = facts.usableBitmaps.find((name) => name === checkpointOf(parts));
    disks.push({ ...disk, facts, bitmap });
  }
  const files = disks.flatMap(({ facts }) => facts.files);
  const attachments = await momentAttachments(xml, definition, options.tpmDirectory);
  const print = await fingerprint(files, momentMs);
  const still = stillId(createHash('sha256').update(print.text).digest('hex'));
  const isStill = request.since === still;
  const hasBitmap = disks.some(({ bitmap }) => bitmap !== undefined);
  if (request.since !== undefined && !hasBitmap && !isStill) {
    throw new Failure('tracking_lost', `freeze VM ${domain.name}: no image has a usable bitmap`);
  }
  const tracking = hasBitmap || !print.isProof ? undefined : still;
  const frozen = { momentMs, files, print: print.text, attachments, tracking, isStill };
  const moment = new StoppedMoment(parts, frozen);
  try {
    await moment.open(disks);
    return moment;
  } catch (error) {
    await Promise.allSettled([moment.release()]);
    throw error;
  }
}

/** The checkpoint that the request's tracking stands for, if it is one. */
function checkpointOf({ options, request: { since } }: MomentParts): string | undefined {
  return since === undefined || isStillId(since) ? undefined : checkpointName(options.replicaId, since);
}

type Frozen = {
  momentMs: number;
  files: string[];
  print: string;
  attachments: MomentAttachment[];
  tracking: string | undefined;
  /** Nothing has changed since the moment that the request goes on from. */
  isStill: boolean;
};

class StoppedMoment implements Moment {
  readonly momentMs: number;
  readonly consistency = 'off';
  readonly disks: MomentDisk[] = [];
  readonly attachments: MomentAttachment[];
  readonly tracking: string | undefined;
  readonly #parts: MomentParts;
  readonly #frozen: Frozen;
  readonly #lost = new AbortController();
  readonly #servers: QemuNbd[] = [];
  readonly #unwatch: () => void;
  #settled: Promise<void> | undefined;

  constructor(parts: MomentParts, frozen: Frozen) {
    this.#parts = parts;
    this.#frozen = frozen;
    this.momentMs = frozen.momentMs;
    this.attachments = frozen.attachments;
    this.tracking = frozen.tracking;
    this.#unwatch = parts.options.watch.watch(parts.domain.uuid, (event) => {
      if (event.kind === 'lifecycle' && event.change === 'started') this.#lose(this.#startedFailure());
    });
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  async open(disks: readonly StoppedDisk[]): Promise<void> {
    const { options, request, signal } = this.#parts;
    for (const [index, { key, path, imageId, bitmap }] of disks.entries()) {
      const server = await QemuNbd.start(
        {
          imagePath: path,
          socketPath: join(options.runDirectory, `${request.next.slice(0, 16)}-${index}.sock`),
          exportName: key,
          clock: options.clock,
          ...(bitmap === undefined ? {} : { bitmap }),
        },
        signal,
      );
      this.#servers.push(server);
      const disk = new ExportedDisk(server.disk, (reason) => this.#lose(reason));
      const changed = (): ReturnType<MomentDisk['changed']> => {
        if (this.#frozen.isStill) return nothing();
        return bitmap === undefined ? undefined : disk.changed();
      };
      this.disks.push({ spec: { key, bytes: disk.bytes }, disk, imageId, changed });
    }
  }

  async confirm(): Promise<void> {
    this.#lost.signal.throwIfAborted();
    const { options } = this.#parts;
    const { state } = await findState(this.#parts);
    if (state !== 'shutoff' && state !== 'crashed') throw this.#startedFailure();
    if ((await this.#print()) === this.#frozen.print) return;
    throw new Failure('tracking_lost', `VM ${options.vm.name}: an image has changed while it was read`);
  }

  acknowledged(): Promise<void> {
    return this.release();
  }

  release(): Promise<void> {
    return (this.#settled ??= this.#settle());
  }

  async #settle(): Promise<void> {
    this.#unwatch();
    try {
      await Promise.all(this.#servers.map((server) => server[Symbol.asyncDispose]()));
    } finally {
      this.#parts.endTurn();
    }
  }

  async #print(): Promise<string> {
    try {
      return (await fingerprint(this.#frozen.files, this.momentMs)).text;
    } catch (error) {
      throw new Failure('tracking_lost', `VM ${this.#parts.options.vm.name}: an image is gone`, {
        cause: error,
      });
    }
  }

  #lose(reason: Failure): void {
    if (this.#settled === undefined) this.#lost.abort(reason);
  }

  #startedFailure(): Failure {
    return new Failure('tracking_lost', `VM ${this.#parts.options.vm.name} was started while it was read`);
  }
}

async function* nothing(): AsyncGenerator<never> {}
