/**
 * The addresses of a plan's VMs as the table that VMware's dr-ip-customizer reads and writes: a row for each adapter
 * and site, adapter 0 for what all adapters of a VM share, and further rows for further addresses. Pure.
 */
import type { PlanAddresses } from '#/api/plan-files.ts';
import type { InterfaceAddresses, PlanDocument } from '#/api/plans.ts';
import { Failure } from '#/lib/failure.ts';
import { csvText, parseCsv } from './csv.ts';

export const COLUMNS = [
  'VM ID',
  'VM Name',
  'vCenter Server',
  'Adapter ID',
  'DNS Domain',
  'Net BIOS',
  'Primary WINS',
  'Secondary WINS',
  'IP Address',
  'Subnet Mask',
  'Gateway(s)',
  'IPv6 Address',
  'IPv6 Subnet Prefix length',
  'IPv6 Gateway(s)',
  'DNS Server(s)',
  'DNS Suffix(es)',
] as const;
type Column = (typeof COLUMNS)[number];
type Cells = Partial<Record<Column, string>>;

const IGNORED: readonly Column[] = ['DNS Domain', 'Net BIOS', 'Primary WINS', 'Secondary WINS'];
const ROWS_MAX = 20_000;
const ADAPTERS_MAX = 64;
const NONE = 'none';

type PlanVmAddresses = PlanAddresses['vms'][number];

/** Rows of the protected site say what is so now, rows of this one what the plan's own settings say. */
export function addressTable(found: PlanAddresses, plan: PlanDocument, site: string): string {
  const rows = found.vms.flatMap((vm) => {
    const own = settingsOf(plan, vm);
    return vm.interfaces.flatMap((nic): Cells[] => {
      if (typeof nic.nic !== 'number') return [];
      const settings = own.find(({ nic: place }) => place === nic.nic || place === nic.mac);
      const head = { 'VM ID': vm.vm_uuid, 'VM Name': vm.vm_name, 'Adapter ID': String(nic.nic + 1) };
      const now = nowRows(nic.before).map((cells) => ({
        ...head,
        'vCenter Server': vm.source_site_name,
        ...cells,
      }));
      return [
        ...now,
        ...wantedRows(settings).map((cells) => ({ ...head, 'vCenter Server': site, ...cells })),
      ];
    });
  });
  return csvText([COLUMNS, ...rows.map((cells) => COLUMNS.map((column) => cells[column] ?? ''))]);
}

export type Imported = {
  document: PlanDocument;
  /** What of the table was not used, in sentences. */
  ignored: string[];
};

/** The plan with the addresses that the rows of `site` give its VMs. Throws usage_invalid with the line. */
export function takeAddressTable(
  text: string,
  name: string,
  known: { found: PlanAddresses; plan: PlanDocument; site: string },
): Imported {
  const [head, ...rows] = parseCsv(text, name, ROWS_MAX);
  const columns = columnsOf(head?.cells ?? [], name);
  const ignored = new Map<string, number>();
  const note = (what: string): void => void ignored.set(what, (ignored.get(what) ?? 0) + 1);
  const vms = new Map<PlanVmAddresses, Map<number, InterfaceAddresses>>();
  for (const { line, cells: texts } of rows) {
    const cells: Cells = {};
    for (const [index, column] of columns.entries()) {
      if (column !== undefined) cells[column] = (texts[index] ?? '').trim();
    }
    const site = cells['vCenter Server'] ?? '';
    if (site !== '' && site.toLowerCase() !== known.site.toLowerCase()) {
      note(`rows of site ${site}`);
      continue;
    }
    for (const column of IGNORED) if ((cells[column] ?? '') !== '') note(column);
    takeRow(cells, { vms, found: known.found, place: `${name}:${line}`, note });
  }
  const document = structuredClone(known.plan);
  for (const [vm, adapters] of vms) putSettings(document, vm, adapters);
  return { document, ignored: [...ignored].map(([what, count]) => `${what}: ignored, ${count} times`) };
}

function columnsOf(head: readonly string[], name: string): (Column | undefined)[] {
  const plain = (text: string): string => text.toLowerCase().replaceAll(/[^a-z0-9]/g, '');
  const names = new Map<string, Column>(COLUMNS.map((column) => [plain(column), column]));
  names.set('site', 'vCenter Server').set('sitename', 'vCenter Server');
  const columns = head.map((text) => names.get(plain(text)));
  for (const column of ['VM Name', 'Adapter ID'] as const) {
    if (columns.includes(column)) continue;
    throw new Failure('usage_invalid', `${name}:1: there is no column "${column}"`, {
      hint: `The first line names the columns: ${COLUMNS.join(', ')}.`,
    });
  }
  return columns;
}

type Taking = {
  vms: Map<PlanVmAddresses, Map<number, InterfaceAddresses>>;
  found: PlanAddresses;
  place: string;
  note: (what: string) => void;
};

function takeRow(cells: Cells, { vms, found, place, note }: Taking): void {
  const vm = vmOf(cells, found, place);
  const adapter = adapterOf(cells, place);
  const adapters = vms.get(vm) ?? new Map<number, InterfaceAddresses>();
  vms.set(vm, adapters);
  const wanted = adapters.get(adapter) ?? { nic: adapter - 1 };
  adapters.set(adapter, wanted);
  if (adapter > 0) {
    takeIpv4(cells, wanted, place, note);
    takeIpv6(cells, wanted, place, note);
  } else if ([cells['IP Address'], cells['IPv6 Address']].some((text) => (text ?? '') !== '')) {
    note('addresses of adapter 0');
  }
  const servers = listIn(cells['DNS Server(s)']);
  if (servers !== undefined) wanted.dns = [...new Set([...(wanted.dns ?? []), ...servers])];
  const suffixes = listIn(cells['DNS Suffix(es)']);
  if (suffixes !== undefined) wanted.search = [...new Set([...(wanted.search ?? []), ...suffixes])];
}

function vmOf(cells: Cells, { vms }: PlanAddresses, place: string): PlanVmAddresses {
  const [id = '', wanted = ''] = [cells['VM ID'], cells['VM Name']];
  const vm =
    vms.find(({ vm_uuid: uuid }) => uuid === id) ??
    vms.find(({ vm_name: name, vm_uuid: uuid }) => wanted === name || wanted === uuid);
  if (vm !== undefined) return vm;
  throw new Failure('usage_invalid', `${place}: the plan has no VM "${wanted || id}"`);
}

function adapterOf(cells: Cells, place: string): number {
  const adapter = Number(cells['Adapter ID'] || Number.NaN);
  if (Number.isInteger(adapter) && adapter >= 0 && adapter <= ADAPTERS_MAX) return adapter;
  throw new Failure('usage_invalid', `${place}: Adapter ID is no number from 0 to ${ADAPTERS_MAX}`);
}

function takeIpv4(cells: Cells, wanted: InterfaceAddresses, place: string, note: Taking['note']): void {
  const text = cells['IP Address'] ?? '';
  if (text.toLowerCase() === 'dhcp') wanted.ipv4 = 'dhcp';
  else if (text === NONE) wanted.ipv4 = [];
  else if (text !== '') {
    const length = text.includes('/') ? '' : `/${prefixLength(cells['Subnet Mask'] ?? '', place)}`;
    wanted.ipv4 = [...(Array.isArray(wanted.ipv4) ? wanted.ipv4 : []), `${text}${length}`];
  }
  const gateway = gatewayIn(cells['Gateway(s)'], note);
  if (gateway !== undefined) wanted.gateway4 = gateway;
}

function takeIpv6(cells: Cells, wanted: InterfaceAddresses, place: string, note: Taking['note']): void {
  const text = cells['IPv6 Address'] ?? '';
  const word = text.toLowerCase();
  if (word === 'dhcp' || word === 'slaac') wanted.ipv6 = word;
  else if (text === NONE) wanted.ipv6 = [];
  else if (text !== '') {
    const length = (cells['IPv6 Subnet Prefix length'] ?? '').replace(/^\//, '');
    if (!text.includes('/') && !/^\d{1,3}$/.test(length)) {
      throw new Failure('usage_invalid', `${place}: ${text} needs an IPv6 Subnet Prefix length, such as 64`);
    }
    const whole = text.includes('/') ? text : `${text}/${length}`;
    wanted.ipv6 = [...(Array.isArray(wanted.ipv6) ? wanted.ipv6 : []), whole];
  }
  const gateway = gatewayIn(cells['IPv6 Gateway(s)'], note);
  if (gateway !== undefined) wanted.gateway6 = gateway;
}

/** A guest has one gateway for each family here. */
function gatewayIn(text: string | undefined, note: Taking['note']): string | null | undefined {
  const [first, ...more] = listIn(text) ?? [];
  if (more.length > 0) note('gateways after the first');
  if (text === NONE) return null;
  return first;
}

/** Undefined for an empty cell; `none` is the empty list. */
function listIn(text: string | undefined): string[] | undefined {
  if (text === undefined || text === '') return undefined;
  if (text === NONE) return [];
  return text.split(/[;,\s]+/).filter((part) => part !== '');
}

/** From a mask such as 255.255.255.0, or the length itself. */
function prefixLength(mask: string, place: string): number {
  const plain = mask.replace(/^\//, '');
  if (/^\d{1,2}$/.test(plain) && Number(plain) <= 32) return Number(plain);
  const parts = plain.split('.').map(Number);
  const bits = parts.map((part) => part.toString(2).padStart(8, '0')).join('');
  const isMask = parts.length === 4 && parts.every((part) => part >= 0 && part < 256) && /^1*0*$/.test(bits);
  if (isMask && /^[\d.]+$/.test(plain)) return bits.replaceAll('0', '').length;
  throw new Failure('usage_invalid', `${place}: "${mask}" is no Subnet Mask`, {
    hint: 'Write one such as 255.255.255.0, or 24.',
  });
}

function settingsOf(plan: PlanDocument, vm: PlanVmAddresses): InterfaceAddresses[] {
  return (plan.vms?.[vm.vm_name] ?? plan.vms?.[vm.vm_uuid])?.addresses ?? [];
}

/** An adapter whose cells are all empty has no settings of its own. */
function putSettings(
  document: PlanDocument,
  vm: PlanVmAddresses,
  adapters: ReadonlyMap<number, InterfaceAddresses>,
): void {
  const { nic: _, ...shared } = adapters.get(0) ?? { nic: -1 };
  const places = [...adapters.keys()].filter((adapter) => adapter > 0);
  // What is shared alone is of all adapters that are known.
  const all = places.length > 0 ? places : vm.interfaces.map((_nic, index) => index + 1);
  const macs = all.map((adapter) => vm.interfaces.find(({ nic }) => nic === adapter - 1)?.mac);
  const staying = settingsOf(document, vm).filter(
    ({ nic }) => !all.some((adapter) => nic === adapter - 1) && !macs.includes(String(nic)),
  );
  const wanted = all.map((adapter) => ({ nic: adapter - 1, ...shared, ...adapters.get(adapter) }));
  const addresses = [...staying, ...wanted.filter((one) => Object.keys(one).length > 1)];
  const key = Object.hasOwn(document.vms ?? {}, vm.vm_uuid) ? vm.vm_uuid : vm.vm_name;
  const { addresses: _before, ...rest } = document.vms?.[key] ?? {};
  const isNew = document.vms === undefined || !Object.hasOwn(document.vms, key);
  if (isNew && addresses.length === 0) return;
  document.vms = { ...document.vms, [key]: addresses.length === 0 ? rest : { ...rest, addresses } };
}

function nowRows(before: readonly string[]): Cells[] {
  return before.map((text) => {
    const [address = '', length = ''] = text.split('/');
    if (address.includes(':')) return { 'IPv6 Address': address, 'IPv6 Subnet Prefix length': length };
    return { 'IP Address': address, 'Subnet Mask': maskOf(Number(length)) };
  });
}

/** The first row has what there is one of; a row without settings is there to be filled in. */
function wantedRows(settings: InterfaceAddresses | undefined): Cells[] {
  if (settings === undefined) return [{}];
  const { ipv4, ipv6, gateway4, gateway6, dns, search } = settings;
  const fours = cellsOf(ipv4).map((text): Cells => {
    const [address = '', length] = text.split('/');
    return {
      'IP Address': address,
      ...(length === undefined ? {} : { 'Subnet Mask': maskOf(Number(length)) }),
    };
  });
  const sixes = cellsOf(ipv6).map((text): Cells => {
    const [address = '', length] = text.split('/');
    return {
      'IPv6 Address': address,
      ...(length === undefined ? {} : { 'IPv6 Subnet Prefix length': length }),
    };
  });
  const rows = Array.from({ length: Math.max(1, fours.length, sixes.length) }, (_, index): Cells => {
    return { ...fours[index], ...sixes[index] };
  });
  rows[0] = {
    ...rows[0],
    'Gateway(s)': gateway4 === null ? NONE : (gateway4 ?? ''),
    'IPv6 Gateway(s)': gateway6 === null ? NONE : (gateway6 ?? ''),
    'DNS Server(s)': dns === undefined ? '' : dns.join(';') || NONE,
    'DNS Suffix(es)': search === undefined ? '' : search.join(';') || NONE,
  };
  return rows;
}

function cellsOf(addresses: string | readonly string[] | undefined): readonly string[] {
  if (addresses === undefined) return [];
  if (typeof addresses === 'string') return [addresses];
  return addresses.length === 0 ? [NONE] : addresses;
}

function maskOf(length: number): string {
  const bits = '1'.repeat(length).padEnd(32, '0');
  return [0, 8, 16, 24].map((start) => Number.parseInt(bits.slice(start, start + 8), 2)).join('.');
}
