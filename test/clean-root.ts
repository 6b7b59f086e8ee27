/**
 * A Debian that has nothing but what every Debian has, for packages to be installed in.
 *
 * debootstrap makes it once, from the mirror of this machine's own apt sources, below the cache. Each test gets an
 * overlay of it in mount, process and network namespaces of its own: everything that is mounted or started there ends
 * with the one process that holds them, and this machine never sees any of it.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { run, type RunOptions, type RunResult } from '#lab/command.ts';

const CACHE = process.env['ANTIPODE_CACHE'] ?? join(import.meta.dirname, '../.cache');
/** What the packages depend on beyond the base system, so that no test installs it again. */
const INCLUDED = ['libstdc++6', 'libatomic1', 'iproute2', 'qemu-utils'];
const DEBOOTSTRAP_TIMEOUT_MS = 600_000;

const HOLD = `set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
ip link set lo up
echo ready
# Ends with whoever made it, however that ends; as the first process of its namespace it takes all others along.
exec cat >/dev/null`;

export class CleanRoot implements AsyncDisposable {
  readonly #directory: string;
  readonly #holder: ChildProcess;
  readonly #pid: number;

  private constructor(directory: string, holder: ChildProcess, pid: number) {
    this.#directory = directory;
    this.#holder = holder;
    this.#pid = pid;
  }

  static async make(): Promise<CleanRoot> {
    const base = await baseRoot();
    const directory = await mkdtemp(join(tmpdir(), 'antipode-clean-'));
    for (const name of ['upper', 'work', 'root']) await mkdir(join(directory, name));
    const argv = [
      '--mount',
      '--pid',
      '--net',
      '--ipc',
      '--uts',
      '--fork',
      '--kill-child',
      'sh',
      '-c',
      HOLD,
      'sh',
    ];
    const holder = spawn('unshare', [...argv, base, directory], { stdio: ['pipe', 'pipe', 'inherit'] });
    const said = await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')]);
    if (!String(said[0]).startsWith('ready')) {
      await rm(directory, { recursive: true, force: true });
      throw new Failure('tool_failed', `make a clean root: its namespaces ended with ${said[0]}`);
    }
    const children = readFileSync(`/proc/${holder.pid}/task/${holder.pid}/children`, 'utf8');
    return new CleanRoot(directory, holder, Number(children.trim()));
  }

  /** Where its files are for a process in its namespaces; see `argv`. */
  get path(): string {
    return join(this.#directory, 'root');
  }

  /** The words that run `command` in it from outside. */
  argv(command: readonly string[]): string[] {
    const enter = ['--mount', '--pid', '--net', '--ipc', '--uts'];
    const clean = ['env', '-i', 'PATH=/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LC_ALL=C.UTF-8'];
    return ['nsenter', `--target=${this.#pid}`, ...enter, '--', 'chroot', this.path, ...clean, ...command];
  }

  run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run(this.argv(command), options);
  }

  sh(script: string, options: RunOptions = {}): Promise<RunResult> {
    return this.run(['sh', '-ec', script], options);
  }

  /** Puts a file of this machine at `target`. */
  async copyIn(source: string, target: string): Promise<void> {
    const enter = ['nsenter', `--target=${this.#pid}`, '--mount', '--'];
    await run([...enter, 'cp', '--', source, join(this.path, target)]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#holder, 'exit');
    this.#holder.stdin?.end();
    await ended;
    await rm(this.#directory, { recursive: true, force: true });
  }
}

async function baseRoot(): Promise<string> {
  const mirror = await mirrorOfThisMachine();
  const path = join(CACHE, `clean-root-${mirror.suite}`);
  if (existsSync(path)) return path;
  await mkdir(CACHE, { recursive: true });
  const making = await mkdtemp(`${path}.`);
  try {
    const options = ['--variant=minbase', `--include=${INCLUDED.join(',')}`];
    await run(['debootstrap', ...options, mirror.suite, making, mirror.url], {
      timeoutMs: DEBOOTSTRAP_TIMEOUT_MS,
    });
    await run(['chmod', '0755', making]);
    await run(['chroot', making, 'apt-get', 'clean']);
    if (!existsSync(path)) await rename(making, path);
  } finally {
    await rm(making, { recursive: true, force: true });
  }
  return path;
}

/** Where apt of this machine has the packages of its own release from. */
async function mirrorOfThisMachine(): Promise<{ suite: string; url: string }> {
  const suite = /^VERSION_CODENAME=(\S+)$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1];
  const format = ['--format', '$(RELEASE) $(COMPONENT) $(SITE)'];
  const { stdout } = await run(['apt-get', 'indextargets', ...format, 'Created-By: Packages']);
  for (const line of stdout.split('\n')) {
    const [release, component, url] = line.split(' ');
    if (release === suite && component === 'main' && suite !== undefined && url !== undefined)
      return { suite, url };
  }
  throw new Failure('not_found', `apt of this machine knows no mirror of ${suite}`);
}
