/**
 * Runs the program of a systemd unit as the unit says, where there is no systemd: its words, user, capabilities and
 * directories. What only systemd can do (file systems of its own, filters of system calls) is left out.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Failure } from '#/lib/failure.ts';
import type { CleanRoot } from './clean-root.ts';

const SAID_LENGTH_MAX = 20_000;
const CAPABILITY = /CAP_([A-Z_]+)/g;

export type Unit = ReadonlyMap<string, readonly string[]>;

/** Every value of each key, in order; sections do not matter here. */
export function parseUnit(text: string): Unit {
  const unit = new Map<string, string[]>();
  for (const line of text.split('\n')) {
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line) ?? [];
    if (key === undefined || value === undefined) continue;
    unit.set(key, [...(unit.get(key) ?? []), value]);
  }
  return unit;
}

export class UnitRun implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  said = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = once(child, 'exit');
    child.stderr?.on('data', (chunk: Buffer) => {
      this.said = (this.said + chunk.toString()).slice(-SAID_LENGTH_MAX);
    });
  }

  static async start(root: CleanRoot, name: string): Promise<UnitRun> {
    const { stdout } = await root.run(['cat', `/usr/lib/systemd/system/${name}.service`]);
    const unit = parseUnit(stdout);
    const first = (key: string): string => unit.get(key)?.[0] ?? '';
    const user = first('User') || 'root';
    for (const [key, parent] of [
      ['RuntimeDirectory', '/run'],
      ['StateDirectory', '/var/lib'],
    ] as const) {
      for (const directory of first(key).split(' ').filter(Boolean)) {
        const mode = first(`${key}Mode`);
        await root.run(['install', '-d', '-o', user, '-m', mode, `${parent}/${directory}`]);
      }
    }
    const masked = ['sh', '-c', `umask ${first('UMask') || '0022'}; exec "$@"`, 'sh'];
    const argv = root.argv([...masked, ...setpriv(unit, user), ...first('ExecStart').split(' ')]);
    return new UnitRun(spawn(argv[0]!, argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] }));
  }

  /** Waits for it to say `text`. Rejects with what it said instead when it ends before. */
  async says(text: string): Promise<void> {
    const stderr = this.#child.stderr!;
    while (!this.said.includes(text)) {
      const next = await Promise.race([once(stderr, 'data'), this.#exited.then(() => undefined)]);
      if (next === undefined && !this.said.includes(text)) {
        throw new Failure('tool_failed', `it ended before it said ${text}: ${this.said}`);
      }
    }
  }

  /** Its exit code, when it ends by itself. */
  async exit(): Promise<number | null> {
    await this.#exited;
    return this.#child.exitCode;
  }

  /** As systemd stops it. nsenter stays in front of what it runs, and hands no signal on. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { pid, exitCode, signalCode } = this.#child;
    if (exitCode === null && signalCode === null) {
      const [main] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ');
      process.kill(Number(main), 'SIGTERM');
    }
    await this.#exited;
  }
}

function setpriv(unit: Unit, user: string): string[] {
  const bounding = capabilities(unit.get('CapabilityBoundingSet')?.[0] ?? '');
  const ambient = capabilities(unit.get('AmbientCapabilities')?.[0] ?? '');
  const identity = user === 'root' ? [] : [`--reuid=${user}`, `--regid=${user}`, '--init-groups'];
  return [
    'setpriv',
    ...identity,
    '--no-new-privs',
    `--bounding-set=${['-all', ...bounding].join(',')}`,
    `--inh-caps=${['-all', ...ambient].join(',')}`,
    ...(ambient.length === 0 ? [] : [`--ambient-caps=${ambient.join(',')}`]),
  ];
}

function capabilities(text: string): string[] {
  return [...text.matchAll(CAPABILITY)].map(([, name]) => `+${name!.toLowerCase()}`);
}
