/**
 * One recovery point, served: each disk read-only over NBD on a Unix socket, its attachments as files beside it
 * (docs/architecture.md, "Recovery of one VM"). On another socket, which root alone may connect to, the digests of its
 * blocks, with their key beside the attachments: whoever recovers the VM keeps them for the way back
 * (docs/failback.md, section 6).
 */
import { chmod, chown, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { RecoverTask } from '#/control/orders.ts';
import type { PointDigests } from '#/control/point-digests.ts';
import { Failure } from '#/lib/failure.ts';
import { NbdServer } from '#/nbd/nbd-server.ts';
import type { Replica, View } from '#/replica/replica.ts';
import type { Attachment } from '#/wire/messages.ts';
import { qemuUser } from '#/lib/qemu-user.ts';

/** Of the file that says what the digests are. */
const DIGESTS_FILE = 'digests.json';
/** Leaves the group as it is. */
const SAME_GROUP = -1;

/** What a `recover` task is told of the view. */
export type ViewDescription = RecoverTask['view'];

const ATTACHMENT_FILES = {
  definition: 'definition.xml',
  nvram: 'nvram',
  tpm: 'tpm',
} as const satisfies Record<Attachment['kind'], string>;

export class OpenedView implements AsyncDisposable {
  readonly description: ViewDescription;
  readonly replicaId: string;
  readonly #directory: string;
  readonly #view: View;
  /** Of the disks, and of their digests. */
  readonly #servers: readonly NbdServer[];

  private constructor(
    replicaId: string,
    parts: { directory: string; view: View; servers: NbdServer[]; description: ViewDescription },
  ) {
    this.replicaId = replicaId;
    this.#directory = parts.directory;
    this.#view = parts.view;
    this.#servers = parts.servers;
    this.description = parts.description;
  }

  /** Serves point `sequence` below `directory`, which is made anew. Throws not_found, point_expired, storage_io. */
  static async open(replica: Replica, sequence: number, directory: string): Promise<OpenedView> {
    const { replicaId } = replica.identity;
    const view = await replica.openView(sequence);
    const [server, digestServer] = [new NbdServer(), new NbdServer()];
    const servers = [server, digestServer];
    try {
      await rm(directory, { recursive: true, force: true });
      const attachmentsPath = join(directory, 'attachments');
      // QEMU, which is not root, comes through to the socket and sees nothing else.
      await mkdir(directory, { recursive: true, mode: 0o711 });
      await mkdir(attachmentsPath, { recursive: true, mode: 0o700 });
      for (const { kind, sha256 } of view.point.attachments) {
        const bytes = await replica.attachment(sha256);
        await writeFile(join(attachmentsPath, ATTACHMENT_FILES[kind]), bytes, { mode: 0o600 });
      }
      for (const [index, disk] of view.disks.entries()) server.addExport(view.point.disks[index]!.key, disk);
      const socketPath = join(directory, 'nbd.sock');
      await server.listen({ kind: 'unix', path: socketPath });
      const user = await qemuUser();
      if (user !== undefined) await chown(socketPath, user, SAME_GROUP);
      for (const [index, disk] of view.digests.entries()) {
        digestServer.addExport(view.point.disks[index]!.key, disk);
      }
      const digestsPath = join(directory, 'dig.sock');
      await digestServer.listen({ kind: 'unix', path: digestsPath });
      await chmod(digestsPath, 0o600);
      const said = describeDigests(view, replica.digestKey, digestsPath);
      await writeFile(join(attachmentsPath, DIGESTS_FILE), JSON.stringify(said), { mode: 0o600 });
      const description = describeView(view, socketPath, attachmentsPath);
      return new OpenedView(replicaId, { directory, view, servers, description });
    } catch (error) {
      for (const each of servers) await each[Symbol.asyncDispose]();
      await view[Symbol.asyncDispose]();
      if (error instanceof Failure) throw error;
      throw new Failure('storage_io', `serve point ${sequence} of replica ${replicaId} below ${directory}`, {
        cause: error,
      });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await this.#view[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

function describeView(view: View, socketPath: string, attachmentsPath: string): ViewDescription {
  const { sequence, disks, attachments } = view.point;
  return {
    socket_path: socketPath,
    attachments_path: attachmentsPath,
    sequence,
    disks: disks.map(({ key, bytes }) => ({ key, bytes, export_name: key })),
    attachments: attachments.map(({ kind, sha256 }) => ({ kind, sha256 })),
  };
}

function describeDigests(view: View, digestKey: string, socketPath: string): PointDigests {
  const { sequence, stamp, momentMs, disks } = view.point;
  return {
    sequence,
    stamp,
    moment_ms: momentMs,
    digest_key: digestKey,
    socket_path: socketPath,
    disks: disks.map(({ key, bytes, root }) => ({ key, bytes, root })),
  };
}
