/**
 * One image of a powered-off VM, served read-only by qemu-nbd on a Unix socket, without locks that could hinder the
 * VM's start (`force-share`). It ends with its last client, so an agent that is killed leaves none behind.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import type { Clock } from '#/lib/clock.ts';
import { Failure, hasCode } from '#/lib/failure.ts';
import { NbdDisk } from '#/nbd/nbd-client.ts';
import { NBD_CONNECTIONS, QEMU_NBD_LOOK_MS, QEMU_NBD_START_MS } from './limits.ts';

const STDERR_LENGTH_MAX = 1000;

export type QemuNbdOptions = {
  imagePath: string;
  socketPath: string;
  exportName: string;
  /** A bitmap of the image to export; it is there and whole. */
  bitmap?: string;
  clock: Clock;
};

export class QemuNbd implements AsyncDisposable {
  readonly disk: NbdDisk;
  readonly #child: ChildProcess;
  readonly #socketPath: string;

  /** Throws tool_failed with what qemu-nbd said. */
  static async start(options: QemuNbdOptions, signal: AbortSignal): Promise<QemuNbd> {
    const { socketPath, exportName, bitmap } = options;
    await rm(socketPath, { force: true });
    const child = spawn('qemu-nbd', argumentsFor(options), { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr?.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-STDERR_LENGTH_MAX)));
    const ended = new Promise<Failure>((resolve) => {
      const failed = (cause?: unknown): void =>
        resolve(
          new Failure('tool_failed', `serve ${options.imagePath}: qemu-nbd: ${said.trim()}`, { cause }),
        );
      child.once('error', failed);
      child.once('close', () => failed());
    });
    try {
      const disk = await connect(
        {
          address: { kind: 'unix', path: socketPath },
          exportName,
          connections: NBD_CONNECTIONS,
          ...(bitmap === undefined ? {} : { dirtyBitmap: bitmap }),
        },
        { clock: options.clock, ended, signal },
      );
      return new QemuNbd(child, disk, socketPath);
    } catch (error) {
      await stop(child);
      throw error;
    }
  }

  private constructor(child: ChildProcess, disk: NbdDisk, socketPath: string) {
    this.#child = child;
    this.disk = disk;
    this.#socketPath = socketPath;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.disk[Symbol.asyncDispose]();
    await stop(this.#child);
    await rm(this.#socketPath, { force: true });
  }
}

function argumentsFor({ imagePath, socketPath, exportName, bitmap }: QemuNbdOptions): string[] {
  // In image options a comma within a value is written twice.
  const file = imagePath.replaceAll(',', ',,');
  const image = `driver=qcow2,force-share=on,file.driver=file,file.filename=${file}`;
  const served = ['--socket', socketPath, '--export-name', exportName, '--shared', String(NBD_CONNECTIONS)];
  const bitmaps = bitmap === undefined ? [] : ['--bitmap', bitmap];
  return ['--read-only', ...served, ...bitmaps, '--image-opts', image];
}

/** Tries until the server listens, has ended, or takes too long. */
async function connect(
  disk: Parameters<typeof NbdDisk.connect>[0],
  { clock, ended, signal }: { clock: Clock; ended: Promise<Failure>; signal: AbortSignal },
): Promise<NbdDisk> {
  const deadline = clock.monotonicMs() + QEMU_NBD_START_MS;
  let failure: Failure | undefined;
  void ended.then((reason) => (failure = reason));
  for (;;) {
    try {
      return await NbdDisk.connect(disk, signal);
    } catch (error) {
      if (failure !== undefined) throw failure;
      if (!hasCode(error, 'unreachable') || clock.monotonicMs() > deadline) throw error;
      await clock.sleep(QEMU_NBD_LOOK_MS, signal);
    }
  }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
}
