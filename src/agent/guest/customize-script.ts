/** The script that changes a guest's addresses: what is to be written, before what writes it (customize.sh). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  expectedAddresses,
  ifupdownStanzas,
  ipCommands,
  netplanFile,
  networkManagerFile,
  resolverFile,
  type WantedNic,
} from './network-files.ts';

const PROGRAM = readFileSync(join(import.meta.dirname, 'customize.sh'), 'utf8');

export type Customization = {
  nics: readonly WantedNic[];
  /** Names of the guest's other interfaces. */
  others: readonly string[];
  hostName: string | null;
};

export function customizeScript(
  mode: 'apply' | 'preview',
  { nics, others, hostName }: Customization,
): string {
  const families = new Set([
    ...(nics.some(({ ipv4 }) => ipv4 !== undefined) ? ['inet'] : []),
    ...(nics.some(({ ipv6 }) => ipv6 !== undefined) ? ['inet6'] : []),
  ]);
  const variables = {
    MODE: mode,
    NICS: nics.map(({ name }) => name).join(' '),
    HINTS: nics.flatMap(({ name, macs }) => [name, ...macs]).join(' '),
    OTHERS: others.join(' '),
    HOST: hostName ?? '',
    FAMILIES: [...families].join(' '),
    NETPLAN: netplanFile(nics),
    IFUPDOWN: ifupdownStanzas(nics),
    RESOLVER: resolverFile(nics) ?? '',
  };
  const expected = expectedAddresses(nics);
  const perNic = {
    manager_file: networkManagerFile,
    ip_commands: (nic: WantedNic) => `${ipCommands(nic).join('\n')}\n`,
    expected: ({ name }: WantedNic) =>
      expected.flatMap((one) => (one.name === name ? [`${one.address}\n`] : [])).join(''),
  };
  return [
    ...Object.entries(variables).map(([name, value]) => `${name}=${quoted(value)}`),
    ...Object.entries(perNic).map(([name, of]) => {
      const cases = nics.map((nic) => `${quoted(nic.name)}) printf '%s' ${quoted(of(nic))} ;;`);
      return `${name}() { case $1 in ${cases.join(' ')} *) ;; esac; }`;
    }),
    PROGRAM,
  ].join('\n');
}

export function restoreScript(): string {
  return `MODE=restore\n${PROGRAM}`;
}

/** One word of the shell, whatever is in it. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
