/** For tests: a PostgreSQL cluster of its own in a temporary directory, on a Unix socket only. */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PROGRAMS = '/usr/lib/postgresql';

export class TestPostgresql implements AsyncDisposable {
  readonly #directory: string;
  readonly #programs: string;
  #count = 0;

  private constructor(directory: string, programs: string) {
    this.#directory = directory;
    this.#programs = programs;
  }

  static async start(): Promise<TestPostgresql> {
    const versions = existsSync(PROGRAMS) ? await readdir(PROGRAMS) : [];
    const version = versions.toSorted().at(-1);
    if (version === undefined) throw new Error(`${PROGRAMS} is missing: install the package postgresql`);
    const directory = await mkdtemp(join(tmpdir(), 'antipode-postgresql-'));
    const cluster = new TestPostgresql(directory, join(PROGRAMS, version, 'bin'));
    // PostgreSQL refuses to run as root.
    const [uid, gid] = await Promise.all(['-u', '-g'].map((flag) => idOf(flag)));
    await chown(directory, uid!, gid!);
    await chmod(directory, 0o700);
    const data = join(directory, 'data');
    await cluster.#as('initdb', ['-D', data, '-A', 'trust', '-U', 'postgres', '--no-sync']);
    // A cluster of a test may lose its data with the machine; the manager's own demands are not tested by it.
    const options = `-c listen_addresses= -c unix_socket_directories=${directory} -c fsync=off`;
    await cluster.#as('pg_ctl', ['-D', data, '-l', join(directory, 'log'), '-o', options, '-w', 'start']);
    return cluster;
  }

  /** A new empty database. */
  async database(): Promise<string> {
    const name = `test${++this.#count}`;
    await this.#as('createdb', ['-h', this.#directory, '-U', 'postgres', name]);
    return `postgresql:///${name}?host=${encodeURIComponent(this.#directory)}&user=postgres`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const data = join(this.#directory, 'data');
    await this.#as('pg_ctl', ['-D', data, '-m', 'immediate', '-w', 'stop']);
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #as(program: string, args: string[]): Promise<void> {
    const command = ['-u', 'postgres', '--', join(this.#programs, program), ...args];
    await run('runuser', command, { cwd: '/', timeout: 60_000 });
  }
}

async function idOf(flag: string): Promise<number> {
  return Number((await run('id', [flag, 'postgres'])).stdout.trim());
}
