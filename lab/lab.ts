/**
 * A lab: real sites on one machine, each with its own network, mounts, libvirtd and, unless bare, our
 * programs.
 *
 * One lab for each directory, any number of labs side by side. All files are in the directory, all
 * interfaces in the sites' namespaces, all processes in them too; so `down` finds everything by name,
 * whatever has crashed.
 */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { lendCapabilities } from './capability-cache.ts';
import { withLabLock } from './lab-lock.ts';
import * as labState from './lab-state.ts';
import type { LabState, LinkState } from './lab-state.ts';
import { deleteNetwork, listNetworks, networkPath } from './namespace.ts';
import { killAllInNetwork, signalProcess, waitForDeath } from './processes.ts';
import { isStartable, startPrograms } from './programs.ts';
import { Site } from './site.ts';
import { createLink, cutLink, limitLink, restoreLink, type LinkLimits } from './wan.ts';

export interface LabOptions {
  /** Must not be in use by anything else; `down` removes it. */
  readonly directory: string;
  readonly sites: readonly string[];
  /** libvirt only. */
  readonly bare?: boolean;
  /** Leaves a new lab that could not be started completely as it is, for a person to look at. */
  readonly keep?: boolean;
  readonly say?: (line: string) => void;
}

export class Lab implements AsyncDisposable {
  readonly directory: string;
  readonly #state: LabState;
  readonly #sites: Map<string, Site>;

  private constructor(directory: string, state: LabState) {
    this.directory = directory;
    this.#state = state;
    const prefix = labState.networkPrefix(state.id);
    this.#sites = new Map(state.sites.map((site) => [site.name, new Site(site, directory, prefix)]));
  }

  /** The lab in the directory as it stands, or undefined. */
  static find(directory: string): Lab | undefined {
    const path = labState.checkDirectory(directory);
    const state = labState.loadState(path);
    return state === undefined ? undefined : new Lab(path, state);
  }

  /** Makes the lab, or starts what is missing of the one that is there. */
  static async up(options: LabOptions): Promise<Lab> {
    if (process.getuid?.() !== 0) {
      throw new Failure('forbidden', 'a lab needs root: it makes namespaces and starts libvirt');
    }
    const directory = labState.checkDirectory(options.directory);
    labState.checkSiteNames(options.sites);
    return withLabLock(lockPath(directory), async () => {
      const existing = Lab.find(directory);
      const lab = existing ?? Lab.#create(directory, options);
      lab.#checkSame(options);
      try {
        await lab.#startAll(options.say ?? (() => undefined));
      } catch (error) {
        if (existing === undefined && options.keep !== true) await removeLab(directory);
        throw error;
      } finally {
        if (existsSync(directory)) lab.#save();
      }
      return lab;
    });
  }

  async #startAll(say: (line: string) => void): Promise<void> {
    for (const site of this.sites) {
      say(`${site.name}: starting libvirt`);
      await lendCapabilities(site);
      await site.startLibvirt();
      this.#save();
    }
    for (const link of this.#state.links) await this.#applyLink(link);
    if (!this.bare) await startPrograms(this.sites, { say, save: () => this.#save() });
  }

  static #create(directory: string, options: LabOptions): Lab {
    if (existsSync(directory)) {
      throw new Failure('already_exists', `${directory} is there and holds no lab`, {
        hint: 'Choose another directory, or run ./antipode lab down if it is what a crash left of a lab.',
      });
    }
    mkdirSync(directory, { recursive: true, mode: 0o755 });
    const sites = options.sites.map((name, index) => ({
      name,
      number: index + 1,
      host_uuid: randomUUID(),
      gateway_port: null,
      processes: {},
    }));
    const links: LinkState[] = [];
    for (const [index, a] of options.sites.entries()) {
      for (const b of options.sites.slice(index + 1)) {
        links.push({ a, b, cut: false, bits_per_second: null, loss_ratio: null });
      }
    }
    const identity = { version: 1 as const, id: labState.labId(directory), boot_id: labState.bootId() };
    const lab = new Lab(directory, { ...identity, bare: options.bare ?? false, sites, links });
    lab.#save();
    return lab;
  }

  #checkSame(options: LabOptions): void {
    const names = this.sites.map((site) => site.name).join(',');
    if (options.sites.join(',') === names && (options.bare ?? false) === this.bare) return;
    throw new Failure(
      'conflict',
      `${this.directory} already holds a lab with other sites or programs: ${names}`,
      {
        hint: 'Take it down first with ./antipode lab down, or choose another directory with ANTIPODE_LAB.',
      },
    );
  }

  get id(): string {
    return this.#state.id;
  }

  get bare(): boolean {
    return this.#state.bare;
  }

  get sites(): readonly Site[] {
    return [...this.#sites.values()];
  }

  get links(): readonly Readonly<LinkState>[] {
    return this.#state.links;
  }

  site(name: string): Site {
    const site = this.#sites.get(name);
    if (site !== undefined) return site;
    throw new Failure('not_found', `the lab has no site ${name}`, {
      hint: `It has ${this.sites.map((each) => each.name).join(', ')}.`,
    });
  }

  async cut(a: string, b: string): Promise<void> {
    await this.#changeLink(a, b, (link) => (link.cut = true));
  }

  /** Up again and without limits. */
  async restore(a: string, b: string): Promise<void> {
    await this.#changeLink(a, b, (link) => {
      link.cut = false;
      link.bits_per_second = null;
      link.loss_ratio = null;
    });
  }

  async limit(a: string, b: string, limits: LinkLimits): Promise<void> {
    await this.#changeLink(a, b, (link) => {
      link.bits_per_second = limits.bitsPerSecond ?? null;
      link.loss_ratio = limits.lossRatio ?? null;
    });
  }

  async #changeLink(a: string, b: string, change: (link: LinkState) => void): Promise<void> {
    const names = [this.site(a).name, this.site(b).name];
    await this.#change(async () => {
      const link = this.#state.links.find((each) => names.includes(each.a) && names.includes(each.b));
      if (link === undefined || a === b) throw new Failure('not_found', `there is no link from ${a} to ${b}`);
      change(link);
      await this.#applyLink(link);
    });
  }

  async #applyLink(link: LinkState): Promise<void> {
    const [a, b] = [this.site(link.a).linkEnd, this.site(link.b).linkEnd];
    await createLink(a, b);
    await restoreLink(a, b);
    const limits = {
      bitsPerSecond: link.bits_per_second ?? undefined,
      lossRatio: link.loss_ratio ?? undefined,
    };
    await limitLink(a, b, limits);
    if (link.cut) await cutLink(a, b);
  }

  /**
   * SIGKILL to one process: a program of the site, libvirtd, virtlogd, gateway, or vm/NAME for a VM's QEMU.
   */
  async kill(siteName: string, processName: string): Promise<void> {
    const site = this.site(siteName);
    await this.#change(async () => {
      const vm = /^vm\/(.+)$/.exec(processName)?.[1];
      const identity = vm === undefined ? site.process(processName) : site.qemuProcess(vm);
      if (identity === undefined) {
        const running = Object.keys(site.state.processes).filter((name) => site.process(name) !== undefined);
        throw new Failure('not_found', `"${processName}" does not run at ${siteName}`, {
          hint: `What runs there: ${running.join(', ') || 'nothing'}.`,
        });
      }
      signalProcess(identity, 'SIGKILL');
      await waitForDeath(identity);
      if (vm === undefined) delete site.state.processes[processName];
    });
  }

  /**
   * As when a site loses its power: VMs, libvirt and our programs end at once. Returns how many processes.
   */
  async killSite(name: string): Promise<number> {
    const site = this.site(name);
    return this.#change(async () => site.killAll());
  }

  /** Starts what is missing at a site: one named program, or all. VMs stay off. */
  async start(siteName: string, processName?: string): Promise<void> {
    const site = this.site(siteName);
    await this.#change(async () => {
      if (processName === undefined || ['holder', 'virtlogd', 'libvirtd'].includes(processName)) {
        await site.startLibvirt();
        for (const link of this.#state.links) {
          if (link.a === siteName || link.b === siteName) await this.#applyLink(link);
        }
      } else if (!isStartable(processName) || this.bare) {
        throw new Failure('not_found', `the lab cannot start "${processName}"`);
      }
      const only = processName !== undefined && isStartable(processName) ? { only: processName } : {};
      const wanted = !this.bare && (processName === undefined || isStartable(processName));
      if (wanted) await startPrograms([site], { say: () => undefined, save: () => this.#save(), ...only });
    });
  }

  /** Runs a change under the lab's lock, on the state as it is then, and saves it whatever happens. */
  async #change<T>(action: () => Promise<T>): Promise<T> {
    return withLabLock(lockPath(this.directory), async () => {
      const current = labState.loadState(this.directory);
      if (current === undefined)
        throw new Failure('not_found', `there is no lab in ${this.directory} any more`);
      this.#state.links = current.links;
      for (const site of current.sites) {
        const own = this.#sites.get(site.name)?.state;
        if (own !== undefined) Object.assign(own, site);
      }
      try {
        return await action();
      } finally {
        this.#save();
      }
    });
  }

  #save(): void {
    labState.saveState(this.directory, this.#state);
  }

  async down(): Promise<void> {
    await Lab.down(this.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }

  /**
   * Removes all that a lab in this directory has made, running or crashed. Says whether there was anything.
   */
  static async down(directory: string): Promise<boolean> {
    const path = labState.checkDirectory(directory);
    return withLabLock(lockPath(path), () => removeLab(path));
  }
}

/** lab.json goes last, so that a removal that was cut short is still known to be of a lab. */
async function removeLab(path: string): Promise<boolean> {
  const networks = await listNetworks(labState.networkPrefix(labState.labId(path)));
  for (const network of networks) await killAllInNetwork(networkPath(network));
  for (const network of networks) await deleteNetwork(network);
  const isLab = existsSync(join(path, 'lab.json')) || existsSync(join(path, 'lab.json.new'));
  if (isLab) {
    await rm(join(path, 'sites'), { recursive: true, force: true });
    await rm(path, { recursive: true, force: true });
  }
  return isLab || networks.length > 0;
}

function lockPath(directory: string): string {
  return `/run/lock/antipode-lab-${labState.labId(directory)}`;
}
