/**
 * libguestfs by its shell, guestfish: a guest's file systems are opened by the kernel of a small VM, the appliance, and
 * never by this host's (docs/decisions/0014-disk-edits.md). A guest that wrote its file system to harm who opens it
 * reaches a QEMU that holds nothing but its own disks.
 *
 * Commands go to guestfish one at a time, each between two lines that only this program knows, and every word of them
 * is quoted so that none of it means anything to guestfish. What it answers is bounded, and so is its time.
 */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';

/** libguestfs itself carries no answer of more than 4 MiB. */
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;
const SAID_LENGTH_MAX = 1000;
/** Enough for replaying the journal of a large file system; QEMU takes what is used of it. */
const MEMORY_MIB = 768;
const ERROR = /^\S*: ?libguestfs: error: |^libguestfs: error: /m;

export type ApplianceDisk = { path: string; format: 'raw' | 'qcow2' };

/** Whether this host has what the appliance is opened by; looked for each time, since it may be installed meanwhile. */
export function hasGuestfish(): boolean {
  const directories = (process.env['PATH'] ?? '').split(':').filter((path) => path.startsWith('/'));
  return directories.some((directory) => existsSync(join(directory, 'guestfish')));
}

type Waiting = { resolve: (text: string) => void; reject: (error: unknown) => void };

export class Appliance implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #directory: string;
  readonly #mark = `end-${randomBytes(12).toString('hex')}`;
  readonly #exited: Promise<void>;
  #said: Buffer[] = [];
  #saidBytes = 0;
  #waiting: Waiting | undefined;
  #over: Failure | undefined;

  private constructor(child: ChildProcessWithoutNullStreams, directory: string) {
    this.#child = child;
    this.#directory = directory;
    child.stdout.on('data', (bytes: Buffer) => this.#take(bytes));
    // It answers by its own exit, which is what tells.
    child.stdin.on('error', () => undefined);
    child.stderr.resume();
    this.#exited = new Promise((resolve) => {
      child.once('error', (cause: NodeJS.ErrnoException) => {
        const hint = { hint: 'Install guestfish (Debian: guestfish libguestfs-xfs) and coreutils.' };
        this.#end(new Failure('tool_failed', 'run guestfish: it cannot be started', { cause, ...hint }));
        resolve();
      });
      child.once('close', (code) => {
        const isMissing =
          code === 127 ? { hint: 'Install guestfish (Debian: guestfish libguestfs-xfs).' } : {};
        const said = this.#text().trim().slice(-SAID_LENGTH_MAX);
        this.#end(new Failure('tool_failed', `guestfish ended: ${said || `exit ${code}`}`, isMissing));
        resolve();
      });
    });
  }

  /**
   * Boots the appliance with these disks. When the signal aborts, it and all that it has not written are gone: what is
   * in the images is then not to be used. Throws tool_failed, and what the signal aborts with.
   */
  static async open(
    disks: readonly ApplianceDisk[],
    { signal, isEmulated }: { signal: AbortSignal; isEmulated: boolean },
  ): Promise<Appliance> {
    signal.throwIfAborted();
    const directory = await mkdtemp(join(tmpdir(), 'antipode-edit-'));
    // Line by line, since answers are waited for; what goes wrong in their place among them.
    const command = 'exec stdbuf -oL guestfish --rw 2>&1';
    const child = spawn('sh', ['-c', command], { env: environment(isEmulated), stdio: 'pipe', cwd: '/' });
    const appliance = new Appliance(child, directory);
    const stop = (): void => appliance.#kill(signal.reason);
    signal.addEventListener('abort', stop, { once: true });
    try {
      signal.throwIfAborted();
      for (const { path, format } of disks) await appliance.run('add-drive', path, `format:${format}`);
      await appliance.run('run');
      return appliance;
    } catch (error) {
      await appliance[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** What the command prints. Throws tool_failed with what guestfish says of it. */
  async run(...words: string[]): Promise<string> {
    const answer = await this.#ask(`-${words[0]} ${words.slice(1).map(quoted).join(' ')}`);
    const error = ERROR.exec(answer);
    if (error === null) return answer;
    const said = answer.slice(error.index).trim().slice(0, SAID_LENGTH_MAX);
    throw new Failure('tool_failed', `${words[0]}: ${said.replace(/^.*?libguestfs: error: /, '')}`);
  }

  /** The bytes of a file of the mounted guest, which the caller has found to be short enough. */
  async download(path: string): Promise<Buffer> {
    const local = join(this.#directory, 'content');
    await this.run('download', path, local);
    return readFile(local);
  }

  async upload(path: string, content: string): Promise<void> {
    const local = join(this.#directory, 'content');
    await writeFile(local, content);
    await this.run('upload', local, path);
  }

  /** Ends the appliance with everything written: only after this resolves the images hold what was asked for. */
  async close(): Promise<void> {
    await this.run('umount-all');
    await this.run('shutdown');
    this.#child.stdin.end();
    await this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#kill(new Failure('cancelled', 'the appliance is ended'));
    await this.#exited;
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** guestfish's own watcher ends QEMU when guestfish is gone. */
  #kill(reason: unknown): void {
    this.#end(reason instanceof Failure ? reason : new Failure('cancelled', 'the appliance was ended'));
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
  }

  #ask(line: string): Promise<string> {
    if (this.#over !== undefined) return Promise.reject(this.#over);
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#child.stdin.write(`${line}\necho ${this.#mark}\n`);
    });
  }

  #take(bytes: Buffer): void {
    this.#said.push(bytes);
    this.#saidBytes += bytes.length;
    if (this.#saidBytes > ANSWER_BYTES_MAX) {
      this.#kill(new Failure('limit_exceeded', 'guestfish says more than any answer of it can be'));
      return;
    }
    const text = this.#text();
    if (!text.endsWith(`${this.#mark}\n`)) return;
    this.#said = [];
    this.#saidBytes = 0;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve(text.slice(0, -this.#mark.length - 1));
  }

  #text(): string {
    return Buffer.concat(this.#said).toString();
  }

  #end(failure: Failure): void {
    this.#over ??= failure;
    this.#waiting?.reject(this.#over);
    this.#waiting = undefined;
  }
}

/**
 * The direct way asks no libvirt; where its kernel and cache are, an operator may say. It takes KVM for there when its
 * device is, and waits for ever where that boots nothing: so it is told what this host's VMs run by.
 */
function environment(isEmulated: boolean): NodeJS.ProcessEnv {
  const { LIBGUESTFS_DEBUG: _debug, LIBGUESTFS_TRACE: _trace, ...own } = process.env;
  return {
    LIBGUESTFS_BACKEND: 'direct',
    LIBGUESTFS_MEMSIZE: String(MEMORY_MIB),
    ...(isEmulated ? { LIBGUESTFS_BACKEND_SETTINGS: 'force_tcg' } : {}),
    ...own,
    // An empty one is no directory to it.
    TMPDIR: tmpdir(),
    LC_ALL: 'C',
  };
}

/** One word of guestfish's, whatever is in it. */
export function quoted(word: string): string {
  const bytes = [...Buffer.from(word)].map((byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9_.,:/@+= -]/.test(character) ? character : `\\x${byte.toString(16).padStart(2, '0')}`;
  });
  return `"${bytes.join('')}"`;
}
