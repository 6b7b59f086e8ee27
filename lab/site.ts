/** One site of a lab: its namespaces, its libvirt, and how to run something in it. */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { existsSync, readFileSync } from 'node:fs';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { run, type RunOptions, type RunResult } from './command.ts';
import { startDaemon } from './daemon.ts';
import { type SiteState } from './lab-state.ts';
import { writeLibvirtFiles } from './libvirt-files.ts';
import { ManagerApi } from './manager-api.ts';
import { createNetwork, enterSite, forgetInterfaces, holdMounts, networkPath } from './namespace.ts';
import { identify, isAlive, killAllInNetwork, type ProcessIdentity } from './processes.ts';
import { siteAddress, type LinkEnd } from './wan.ts';

const LOG_CHARACTERS = 800;

export class Site {
  readonly state: SiteState;
  /** Everything of the site is below it; the same path inside and outside. */
  readonly directory: string;
  /** Name of the network namespace. */
  readonly network: string;

  constructor(state: SiteState, labDirectory: string, prefix: string) {
    this.state = state;
    this.directory = join(labDirectory, 'sites', state.name);
    this.network = `${prefix}${state.name}`;
  }

  get name(): string {
    return this.state.name;
  }

  get address(): string {
    return siteAddress(this.state.number);
  }

  get linkEnd(): LinkEnd {
    return { network: this.network, site: this.name, number: this.state.number };
  }

  /** libvirt's socket, as a program outside the site reaches it. */
  get libvirtSocket(): string {
    return join(this.directory, 'run/libvirt/libvirt-sock');
  }

  /** The manager's socket for root; inside it is /run/antipode/manager.sock. */
  get managerSocket(): string {
    return join(this.directory, 'run/antipode/manager.sock');
  }

  get api(): ManagerApi {
    return new ManagerApi(this.managerSocket);
  }

  /** Where VM images of the lab are. */
  get diskDirectory(): string {
    return join(this.directory, 'disks');
  }

  process(name: string): ProcessIdentity | undefined {
    const identity = this.state.processes[name];
    return identity !== undefined && isAlive(identity) ? identity : undefined;
  }

  /** Namespaces, then libvirt in them. What runs already stays as it is. */
  async startLibvirt(): Promise<void> {
    // virtlogd opens the serial logs before libvirt makes their directory.
    for (const name of ['logs', 'disks', 'log/qemu'])
      await mkdir(join(this.directory, name), { recursive: true });
    await createNetwork(this.network);
    if (this.process('holder') === undefined) {
      // A machine that starts again finds its /run empty, so libvirt takes no VM of before for a running one.
      await killAllInNetwork(networkPath(this.network));
      await forgetInterfaces(this.network);
      await rm(join(this.directory, 'run'), { recursive: true, force: true });
      const identity = { hostUuid: this.state.host_uuid, number: this.state.number };
      await writeLibvirtFiles(join(this.directory, 'etc'), identity);
      this.state.processes = { holder: await holdMounts(this.network, this.directory) };
    }
    await this.startVirtlogd();
    await this.startLibvirtd();
  }

  private async startVirtlogd(): Promise<void> {
    if (this.process('virtlogd') !== undefined) return;
    const readyFile = join(this.directory, 'run/libvirt/virtlogd-sock');
    this.state.processes['virtlogd'] = await this.startProgram('virtlogd', daemon('virtlogd'), { readyFile });
  }

  private async startLibvirtd(): Promise<void> {
    if (this.process('libvirtd') === undefined) {
      const readyFile = this.libvirtSocket;
      this.state.processes['libvirtd'] = await this.startProgram('libvirtd', daemon('libvirtd'), {
        readyFile,
      });
    }
    // The socket is there before the drivers are; a first answer says that they are.
    await this.virsh(['net-list', '--name']);
  }

  /** Starts a long-running program inside; its output goes to logs/NAME.log. */
  async startProgram(
    name: string,
    argv: readonly string[],
    options: { readyFile?: string; socket?: Server; readyMs?: number } = {},
  ): Promise<ProcessIdentity> {
    const log = join(this.directory, 'logs', `${name}.log`);
    return startDaemon({ argv: [...this.enter(), ...argv], log, ...options });
  }

  /** The end of a program's log. */
  async lastWords(name: string): Promise<string> {
    const text = await readFile(join(this.directory, 'logs', `${name}.log`), 'utf8');
    return text.trim().slice(-LOG_CHARACTERS);
  }

  /** The words that put a command inside this site. */
  enter(): string[] {
    const holder = this.process('holder');
    if (holder === undefined) {
      throw new Failure('unreachable', `site ${this.name} is not running`, {
        hint: `Start it with: ./antipode lab start ${this.name}`,
      });
    }
    return enterSite(this.network, holder);
  }

  /** Runs a command inside the site to its end. */
  async exec(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return run([...this.enter(), ...argv], options);
  }

  async virsh(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    return (await this.exec(['virsh', '-q', '-c', 'qemu:///system', ...argv], options)).stdout;
  }

  /** The QEMU of a VM that runs here. */
  qemuProcess(vm: string): ProcessIdentity | undefined {
    const path = join(this.directory, 'run/libvirt/qemu', `${vm}.pid`);
    return existsSync(path) ? identify(Number(readFileSync(path, 'utf8'))) : undefined;
  }

  /** As when the power goes: everything inside is killed at once. Files stay. */
  async killAll(): Promise<number> {
    const count = await killAllInNetwork(networkPath(this.network));
    this.state.processes = {};
    return count;
  }
}

/** Both keep their pid file in /run itself unless told otherwise, and that is the machine's. */
function daemon(name: string): string[] {
  return [`/usr/sbin/${name}`, '--pid-file', `/run/libvirt/${name}.pid`];
}
