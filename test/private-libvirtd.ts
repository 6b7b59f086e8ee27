/**
 * A libvirtd of a test's own: real daemon, real drivers, in private namespaces, gone with the test.
 *
 *     await using daemon = await startPrivateLibvirtd();
 *     await using libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
 *
 * Mounts: the daemon's five directories are subdirectories of `directory`, whose path is the same inside and outside,
 * so a test puts images and sockets there. Network: none but loopback. Processes: a PID namespace whose first process
 * ends when the test closes its standard input or dies, and with it everything that libvirt started.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';

const START_MS = 30_000;
const POLL_MS = 20;

/** What libvirt keeps and where this keeps it. */
const MOUNTS = [
  ['etc', '/etc/libvirt'],
  ['run', '/run/libvirt'],
  ['lib', '/var/lib/libvirt'],
  ['log', '/var/log/libvirt'],
  ['cache', '/var/cache/libvirt'],
] as const;

const QEMU_CONF = `security_driver = "none"
user = "root"
group = "root"
cgroup_controllers = []
remember_owner = 0
`;

export type PrivateLibvirtd = AsyncDisposable & {
  /** The daemon's socket, as seen from outside. */
  readonly socketPath: string;
  /** For images, scratch files and NBD sockets: the same path inside and outside. */
  readonly directory: string;
  /** Runs a program beside the daemon, in all its namespaces, and returns what it printed. Throws when it fails. */
  run(command: string, args: readonly string[]): Promise<string>;
  /** SIGKILL to the QEMU process of a running domain. */
  killQemu(domainName: string): Promise<void>;
  /** SIGKILL to libvirtd; QEMU processes go on. `start` brings it back. */
  killDaemon(): Promise<void>;
  start(): Promise<void>;
  /** The end of the daemon's log, for a test that failed. */
  log(): Promise<string>;
};

export async function startPrivateLibvirtd(): Promise<PrivateLibvirtd> {
  const root = await mkdtemp(join(tmpdir(), 'private-libvirtd-'));
  const directory = join(root, 'data');
  await mkdir(directory);
  for (const [name] of MOUNTS) await mkdir(join(root, name));
  await mkdir(join(root, 'etc/qemu'), { recursive: true });
  await writeFile(join(root, 'etc/qemu.conf'), QEMU_CONF);
  await writeFile(join(root, 'etc/libvirtd.conf'), `host_uuid = "${randomUUID()}"\nauth_unix_rw = "none"\n`);
  const first = spawn(
    'unshare',
    ['--mount', '--net', '--pid', '--fork', '--kill-child', 'sh', '-c', firstProcess(root)],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  const daemon = new Daemon(root, directory, first);
  try {
    await daemon.settle();
    await daemon.start();
    return daemon;
  } catch (error) {
    const log = await daemon.log();
    await daemon[Symbol.asyncDispose]();
    throw new Error(`start a private libvirtd; its log ends with:\n${log}`, { cause: error });
  }
}

/**
 * Mounts what is private, says so, and waits for the end of its input; its death ends the whole namespace. It removes
 * the files too, for a test that was killed cannot.
 *
 * It stays a shell, because the first process inherits orphans and a shell that waits for `cat` reaps them: libvirt
 * waits for ever for a daemonized QEMU that remains a zombie.
 */
function firstProcess(root: string): string {
  const mounts = MOUNTS.map(([name, target]) => `mkdir -p ${target}; mount --bind ${root}/${name} ${target}`);
  const lines = [
    'set -e',
    'mount -t proc proc /proc',
    'mount -t tmpfs tmpfs /run',
    'mkdir /run/lock',
    ...mounts,
    'ip link set lo up',
  ];
  return [...lines, 'virtlogd -d', 'echo ready', 'cat', `rm -rf ${root}`].join('\n');
}

class Daemon implements PrivateLibvirtd {
  readonly socketPath: string;
  readonly directory: string;
  readonly #root: string;
  readonly #first: ChildProcess;
  #insidePid = 0;
  #libvirtd: ChildProcess | undefined;
  #output = '';

  constructor(root: string, directory: string, first: ChildProcess) {
    this.#root = root;
    this.directory = directory;
    this.socketPath = join(root, 'run/libvirt-sock');
    this.#first = first;
    first.stderr?.on('data', (chunk: Buffer) => this.#keep(chunk));
  }

  /** Waits until the namespaces stand. */
  async settle(): Promise<void> {
    const { stdout } = this.#first;
    assert(stdout !== null);
    const gone = once(this.#first, 'exit').then(() => {
      throw new Error(`the namespaces could not be made: ${this.#output}`);
    });
    await Promise.race([once(stdout, 'data'), gone]);
    gone.catch(() => undefined);
    const children = await readFile(`/proc/${this.#first.pid}/task/${this.#first.pid}/children`, 'utf8');
    this.#insidePid = Number(children.trim().split(' ')[0]);
    assert(this.#insidePid > 0, 'the first process of the namespace is unknown');
  }

  async start(): Promise<void> {
    const libvirtd = this.#enter('libvirtd', []);
    libvirtd.stderr?.on('data', (chunk: Buffer) => this.#keep(chunk));
    libvirtd.stdout?.resume();
    this.#libvirtd = libvirtd;
    const deadline = performance.now() + START_MS;
    while (!(await this.#answers())) {
      if (libvirtd.exitCode !== null) throw new Error(`libvirtd ended with ${libvirtd.exitCode}`);
      if (performance.now() > deadline) throw new Error(`libvirtd did not listen within ${START_MS} ms`);
      await delay(POLL_MS);
    }
  }

  async run(command: string, args: readonly string[]): Promise<string> {
    const child = this.#enter(command, args);
    let output = '';
    let errors = '';
    child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
    child.stderr?.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${errors}`);
    return output;
  }

  async killQemu(domainName: string): Promise<void> {
    const pid = await readFile(join(this.#root, 'run/qemu', `${domainName}.pid`), 'utf8');
    // Its monitor is gone before its images are let go of, and who starts the VM anew then finds them locked.
    const gone = 'while [ -e /proc/$1/status ] && ! grep -q "^State:.Z" /proc/$1/status; do sleep 0.01; done';
    await this.run('sh', ['-c', `kill -9 $1; ${gone} 2>/dev/null`, 'sh', pid.trim()]);
  }

  async killDaemon(): Promise<void> {
    const pid = await this.run('cat', ['/run/libvirtd.pid']);
    const libvirtd = this.#libvirtd;
    assert(libvirtd !== undefined, 'libvirtd is not running');
    const exited = once(libvirtd, 'exit');
    await this.run('kill', ['-9', pid.trim()]);
    await exited;
    this.#libvirtd = undefined;
  }

  log(): Promise<string> {
    return Promise.resolve(this.#output.slice(-4000));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = this.#first.exitCode === null ? once(this.#first, 'exit') : undefined;
    this.#first.stdin?.end();
    await exited;
    if (this.#libvirtd?.exitCode === null && this.#libvirtd.signalCode === null)
      await once(this.#libvirtd, 'exit');
    await rm(this.#root, { recursive: true, force: true });
  }

  #enter(command: string, args: readonly string[]): ChildProcess {
    const target = ['--target', String(this.#insidePid), '--mount', '--net', '--pid'];
    return spawn('nsenter', [...target, command, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  }

  async #answers(): Promise<boolean> {
    const exists = await access(this.socketPath).then(
      () => true,
      () => false,
    );
    if (!exists) return false;
    return await new Promise((resolve) => {
      const socket = createConnection({ path: this.socketPath });
      const settle = (isListening: boolean) => (): void => {
        socket.destroy();
        resolve(isListening);
      };
      socket.once('connect', settle(true)).once('error', settle(false));
    });
  }

  #keep(chunk: Buffer): void {
    this.#output = (this.#output + chunk.toString()).slice(-65_536);
  }
}
