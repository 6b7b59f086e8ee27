/** A recovery point that is served to a private libvirtd's host, and a way to talk to the guest recovered from it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import type { RecoverTask } from '#/control/orders.ts';
import type { PointDigests } from '#/control/point-digests.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { nextLevel, rootLevel } from '#/disk/digest-tree.ts';
import { blockCount, type Disk, type Extent } from '#/disk/disk.ts';
import { MemoryDisk } from '#/disk/memory-disk.ts';
import type { Domain } from '#/libvirt/domain.ts';
import type { Libvirt } from '#/libvirt/libvirt.ts';
import type { RpcStream } from '#/libvirt/stream.ts';
import { createLog } from '#/lib/log.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { NbdServer } from '#/nbd/nbd-server.ts';
import { Places } from './places.ts';
import { TestNetworks } from './recover-network.ts';
import type { RecoverContext } from './recover-task.ts';
import { RecoveryStates } from './recovery-state.ts';
import { RetiredCopies } from './retire/retired-copies.ts';
import { Baselines } from './baseline/baselines.ts';
import type { EditDisks } from './edit/recover-edit.ts';
import { StepLog } from './step-log.ts';

/** For recoveries that change nothing in the disks. */
export const noEdit: EditDisks = () => Promise.reject(new Error('no edit was asked for'));

/** Reads from here on wait while the point is held; what a guest boots by is before. */
const HELD_FROM = 4 * 2 ** 20;

/** A guest that says nothing for so long will not. */
const HEAR_MS = 20_000;

/** What a replication server serves of one point, in this process, to be killed and started at will. */
export class ServedPoint implements AsyncDisposable {
  readonly directory: string;
  readonly #disks: readonly HoldableDisk[];
  readonly #sockets = new Set<Socket>();
  #server: NbdServer | undefined;
  #digestServer: NbdServer | undefined;
  #listener: Server | undefined;
  #attachments: { kind: string; sha256: string }[] = [];

  /** `disks` are raw contents by their keys. */
  constructor(directory: string, disks: Readonly<Record<string, Uint8Array>>) {
    this.directory = directory;
    this.#disks = Object.entries(disks).map(([key, bytes]) => new HoldableDisk(key, new MemoryDisk(bytes)));
  }

  get attachmentsPath(): string {
    return `${this.directory}/attachments`;
  }

  async attach(kind: 'definition' | 'nvram' | 'tpm', bytes: Uint8Array | string): Promise<void> {
    await mkdir(this.attachmentsPath, { recursive: true });
    await writeFile(`${this.attachmentsPath}/${kind === 'definition' ? 'definition.xml' : kind}`, bytes);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    this.#attachments = [...this.#attachments.filter((other) => other.kind !== kind), { kind, sha256 }];
  }

  async start(): Promise<void> {
    const server = new NbdServer();
    for (const disk of this.#disks) server.addExport(disk.key, disk);
    this.#server = server;
    await rm(this.#socketPath, { force: true });
    this.#listener = createServer((socket) => {
      this.#sockets.add(socket);
      void server.serve(socket);
    }).listen(this.#socketPath);
    await once(this.#listener, 'listening');
  }

  /** Serves the digests of what the disks hold, as the point that tasks are of. */
  async serveDigests(digestKey: string): Promise<void> {
    const server = (this.#digestServer = new NbdServer());
    const disks = this.#disks.map(({ key, bytes, content }) => {
      const row = digestBlocks(digestKey, content);
      const padded = new Uint8Array(Math.ceil(row.length / 512) * 512);
      padded.set(row);
      server.addExport(key, new MemoryDisk(padded));
      let nodes: Uint8Array = row;
      for (let level = 0; level < rootLevel(blockCount(bytes)); level++) nodes = nextLevel(nodes);
      return { key, bytes, root: Buffer.from(nodes).toString('hex') };
    });
    const socketPath = `${this.directory}/dig.sock`;
    await server.listen({ kind: 'unix', path: socketPath });
    const point = { sequence: 7, stamp: '7'.repeat(32), moment_ms: 7 };
    const said: PointDigests = { ...point, digest_key: digestKey, socket_path: socketPath, disks };
    await mkdir(this.attachmentsPath, { recursive: true });
    await writeFile(`${this.attachmentsPath}/digests.json`, JSON.stringify(said));
  }

  /** As a killed process goes: nothing that was asked is answered. */
  async kill(): Promise<void> {
    const closed = this.#listener === undefined ? undefined : once(this.#listener, 'close');
    this.#listener?.close();
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
    this.release();
    await this.#server?.[Symbol.asyncDispose]();
    await this.#digestServer?.[Symbol.asyncDispose]();
    await closed;
    this.#server = undefined;
    this.#listener = undefined;
  }

  /** From now on reads beyond HELD_FROM are not answered. Resolves when one waits. */
  hold(): Promise<void> {
    return Promise.race(this.#disks.map((disk) => disk.hold()));
  }

  release(): void {
    for (const disk of this.#disks) disk.release();
  }

  task(change: Partial<RecoverTask> & { id: string }): RecoverTask {
    return {
      kind: 'recover',
      replica_id: 'replica-1',
      view: {
        socket_path: this.#socketPath,
        attachments_path: this.attachmentsPath,
        sequence: 7,
        disks: this.#disks.map(({ key, bytes }) => ({ key, bytes, export_name: key })),
        attachments: this.#attachments,
      },
      name: 'web',
      purpose: 'recovery',
      epoch: 2,
      networks: { prod: 'site-b' },
      default_network: null,
      storage_path: `${this.directory}/images`,
      sign_of_life: { serial_text: '!', timeout_ms: 20_000 },
      ...change,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  get #socketPath(): string {
    return `${this.directory}/nbd.sock`;
  }
}

class HoldableDisk implements Disk {
  readonly key: string;
  readonly bytes: number;
  readonly #inner: MemoryDisk;
  #released: PromiseWithResolvers<void> | undefined;
  #waits = Promise.withResolvers<void>();

  constructor(key: string, inner: MemoryDisk) {
    this.key = key;
    this.#inner = inner;
    this.bytes = inner.bytes;
  }

  get content(): Uint8Array {
    return this.#inner.content;
  }

  hold(): Promise<void> {
    this.#released = Promise.withResolvers();
    this.#waits = Promise.withResolvers();
    return this.#waits.promise;
  }

  release(): void {
    this.#released?.resolve();
    this.#released = undefined;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    if (offset >= HELD_FROM && this.#released !== undefined) {
      this.#waits.resolve();
      await this.#released.promise;
    }
    await this.#inner.read(offset, target);
  }

  extents(offset: number, length: number): Promise<Extent[]> {
    return this.#inner.extents(offset, length);
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}

/** As an agent that has just started knows them. */
export function newBaselines(dataDirectory: string, libvirt: () => Libvirt): Baselines {
  return new Baselines({ dataDirectory, libvirt, log: createLog('agent', () => undefined) });
}

/** The serial port of an echo guest. */
export class GuestTalk implements AsyncDisposable {
  readonly #console: RpcStream;
  readonly #pieces: AsyncIterator<Uint8Array, undefined>;
  #heard = '';

  private constructor(console: RpcStream) {
    this.#console = console;
    this.#pieces = console[Symbol.asyncIterator]();
  }

  static async open(domain: Domain): Promise<GuestTalk> {
    return new GuestTalk(await domain.openConsole(undefined, ['force']));
  }

  async say(text: string): Promise<void> {
    await this.#console.write(Buffer.from(text));
  }

  /** The next `length` characters. */
  async hear(length: number): Promise<string> {
    const silence = setTimeout(() => void this.#console[Symbol.asyncDispose](), HEAR_MS);
    while (this.#heard.length < length) {
      const { value } = await this.#pieces.next();
      assert(value !== undefined, `the console ended after ${JSON.stringify(this.#heard)}`);
      this.#heard += Buffer.from(value).toString('latin1');
    }
    clearTimeout(silence);
    const text = this.#heard.slice(0, length);
    this.#heard = this.#heard.slice(length);
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#console[Symbol.asyncDispose]();
  }
}

/** The raw bytes of a qcow2 image. */
export async function rawBytes(
  run: (command: string, args: readonly string[]) => Promise<string>,
  image: string,
): Promise<Uint8Array> {
  await run('qemu-img', ['convert', '-O', 'raw', image, `${image}.raw`]);
  const bytes = await readFile(`${image}.raw`);
  await rm(`${image}.raw`);
  return bytes;
}

/** What an agent that has just started on a host recovers with; `directory` is that of its private libvirtd. */
export function recoverContext(
  host: { libvirt: Libvirt; directory: string },
  change: Partial<RecoverContext> = {},
): RecoverContext {
  const { libvirt, directory } = host;
  const states = change.states ?? new RecoveryStates(`${directory}/recoveries`);
  const firmware = { tpmDirectory: `${directory}/../lib/swtpm` };
  const changed = (): void => undefined;
  return {
    libvirt,
    clock: systemClock,
    states,
    networks: new TestNetworks(states),
    firmware,
    steps: new StepLog(systemClock, changed),
    retired: new RetiredCopies({ ...firmware, dataDirectory: directory, clock: systemClock, changed }),
    baselines: newBaselines(directory, () => libvirt),
    pulls: new Places(1),
    editDisks: noEdit,
    isUp: changed,
    ...change,
  };
}

/** Dies in a step, or just after it, as a killed agent does: what the step has begun is not undone. */
export class DyingSteps extends StepLog {
  readonly #at: { name: string; when: 'before' | 'after' };

  constructor(at: { name: string; when: 'before' | 'after' }) {
    super(systemClock, () => undefined);
    this.#at = at;
  }

  override async run<T>(name: string, work: Parameters<StepLog['run']>[1]): Promise<T> {
    const dies = (when: 'before' | 'after'): boolean => this.#at.name === name && this.#at.when === when;
    if (dies('before')) throw new Error('killed');
    const result = (await super.run(name, work)) as T;
    if (dies('after')) throw new Error('killed');
    return result;
  }
}
