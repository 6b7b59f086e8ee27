/**
 * nbdkit and qemu-nbd as peers of the tests: started on a Unix socket in a directory of their own, ended by their own
 * process ids, nothing left behind. For tests only.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, watch } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { NbdAddress } from './nbd-connection.ts';

const execFileAsync = promisify(execFile);

/** A directory that is removed with all it holds. */
export class TemporaryDirectory implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<TemporaryDirectory> {
    return new TemporaryDirectory(await mkdtemp(join(tmpdir(), 'antipode-nbd-')));
  }

  file(name: string): string {
    return join(this.path, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** A server program that runs until it is disposed of. */
export class RealServer implements AsyncDisposable {
  readonly path: string;
  readonly address: NbdAddress;
  readonly #directory: TemporaryDirectory;
  readonly #child: ChildProcess;

  private constructor(directory: TemporaryDirectory, child: ChildProcess) {
    this.#directory = directory;
    this.#child = child;
    this.path = directory.file('socket');
    this.address = { kind: 'unix', path: this.path };
  }

  /** `parameters` are nbdkit's plugin, its parameters and filters. */
  static nbdkit(...parameters: string[]): Promise<RealServer> {
    return RealServer.#start('nbdkit', (directory) => [
      '--foreground',
      '--exit-with-parent',
      '--unix',
      directory.file('socket'),
      '--pidfile',
      directory.file('pid'),
      ...parameters,
    ]);
  }

  /** `parameters` are qemu-nbd's options and the image. */
  static qemu(...parameters: string[]): Promise<RealServer> {
    return RealServer.#start('qemu-nbd', (directory) => [
      '--persistent',
      '--shared=8',
      '--socket',
      directory.file('socket'),
      '--pid-file',
      directory.file('pid'),
      ...parameters,
    ]);
  }

  static async #start(
    program: string,
    argv: (directory: TemporaryDirectory) => string[],
  ): Promise<RealServer> {
    const directory = await TemporaryDirectory.create();
    const child = spawn(program, argv(directory), { stdio: ['ignore', 'ignore', 'pipe'] });
    const server = new RealServer(directory, child);
    try {
      await untilReady(program, child, directory);
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Ends the program without a goodbye. */
  async kill(): Promise<void> {
    if (this.#child.pid === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null)
      return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await this.#directory[Symbol.asyncDispose]();
  }
}

/** Resolves when the program wrote its pid file, which it does once it listens; rejects when it ends before. */
async function untilReady(
  program: string,
  child: ChildProcess,
  directory: TemporaryDirectory,
): Promise<void> {
  let said = '';
  child.stderr?.on('data', (text: Buffer) => (said = (said + text.toString()).slice(-2000)));
  const ready = Promise.withResolvers<void>();
  const check = (): void => {
    const pidFile = directory.file('pid');
    if (existsSync(pidFile) && readFileSync(pidFile).length > 1) ready.resolve();
  };
  const fail = (reason: unknown): void =>
    ready.reject(new Error(`${program} did not start: ${String(reason)} ${said}`));
  const timer = setTimeout(() => fail('too slow'), 20_000);
  const watcher = watch(directory.path, check);
  child.once('exit', fail);
  child.once('error', fail);
  try {
    check();
    await ready.promise;
  } finally {
    clearTimeout(timer);
    watcher.close();
  }
}

/** Runs a program to its end and returns what it printed; fails when it fails. */
export async function run(program: string, ...argv: string[]): Promise<string> {
  const { stdout } = await execFileAsync(program, argv, { timeout: 60_000, maxBuffer: 16 * 1024 * 1024 });
  return stdout;
}
