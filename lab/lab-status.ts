/** How a lab stands, looked up and not remembered: processes, links, VMs. */
import { Failure } from '#/lib/failure.ts';
import type { LinkState } from './lab-state.ts';
import type { Lab } from './lab.ts';
import { PROGRAMS } from './programs.ts';
import type { Site } from './site.ts';

export interface VmStatus {
  readonly site: string;
  readonly name: string;
  readonly state: string;
}

export interface LabStatus {
  readonly id: string;
  readonly directory: string;
  readonly bare: boolean;
  readonly sites: readonly {
    readonly name: string;
    readonly address: string;
    readonly network_namespace: string;
    readonly directory: string;
    /** Of the manager's API, from this machine; null without one. */
    readonly url: string | null;
    readonly libvirt_socket: string;
    readonly processes: readonly {
      readonly name: string;
      readonly running: boolean;
      readonly pid: number | null;
    }[];
    readonly vms: readonly VmStatus[];
  }[];
  readonly links: readonly Readonly<LinkState>[];
}

export async function labStatus(lab: Lab): Promise<LabStatus> {
  const wanted = ['holder', 'virtlogd', 'libvirtd', ...(lab.bare ? [] : [...PROGRAMS, 'gateway'])];
  const sites = [];
  for (const site of lab.sites) {
    const processes = wanted.map((name) => {
      const pid = site.process(name)?.pid ?? null;
      return { name, running: pid !== null, pid };
    });
    const port = site.state.gateway_port;
    sites.push({
      name: site.name,
      address: site.address,
      network_namespace: site.network,
      directory: site.directory,
      url: port === null || site.process('gateway') === undefined ? null : `https://127.0.0.1:${port}/`,
      libvirt_socket: site.libvirtSocket,
      processes,
      vms: await siteVms(site),
    });
  }
  return { id: lab.id, directory: lab.directory, bare: lab.bare, sites, links: lab.links };
}

export async function vmList(lab: Lab): Promise<VmStatus[]> {
  const lists: VmStatus[] = [];
  for (const site of lab.sites) lists.push(...(await siteVms(site)));
  return lists;
}

/** None for a site whose libvirt is down: what is not known is not claimed. */
async function siteVms(site: Site): Promise<VmStatus[]> {
  if (site.process('libvirtd') === undefined) return [];
  const lines = (await site.virsh(['list', '--all'])).split('\n');
  const rows = lines.map((line) => /^\s*(?:\d+|-)\s+(\S+)\s+(\S.*?)\s*$/.exec(line));
  return rows.flatMap((row) => (row === null ? [] : [{ site: site.name, name: row[1]!, state: row[2]! }]));
}

/** The site that runs the VM, or else the only one that has it defined. */
export async function findVmSite(lab: Lab, name: string): Promise<string> {
  const found = (await vmList(lab)).filter((vm) => vm.name === name);
  const site = found.find((vm) => vm.state === 'running')?.site ?? found[0]?.site;
  if (site !== undefined) return site;
  throw new Failure('not_found', `no site of the lab has a VM named ${name}`, {
    hint: 'List them with ./antipode lab vm list; a site whose libvirt is down shows none.',
  });
}
