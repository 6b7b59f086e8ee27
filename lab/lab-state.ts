/**
 * What a lab remembers in its directory (lab.json): its sites, their processes, its links.
 *
 * Nothing needed for taking a lab down is only here. Its id, and with it the names of its namespaces,
 * follows from the directory's path, and its processes are found by their namespace; so a lab whose file is
 * lost or stale still goes.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import type { ProcessIdentity } from './processes.ts';

export interface LinkState {
  readonly a: string;
  readonly b: string;
  cut: boolean;
  bits_per_second: number | null;
  loss_ratio: number | null;
}

export interface SiteState {
  readonly name: string;
  /** From 1; the second half of its addresses. */
  readonly number: number;
  readonly host_uuid: string;
  /** Port on 127.0.0.1 of the machine that leads to the site's manager; kept over restarts. */
  gateway_port: number | null;
  processes: Record<string, ProcessIdentity>;
}

export interface LabState {
  readonly version: 1;
  readonly id: string;
  /** Of the kernel; processes and namespaces do not outlive it. */
  boot_id: string;
  /** libvirtd only, without our programs. */
  readonly bare: boolean;
  sites: SiteState[];
  links: LinkState[];
}

export const DEFAULT_DIRECTORY = '/var/lib/antipode-lab';
/** Sockets are below the lab's directory, and a socket's path has at most 107 bytes. */
const DIRECTORY_CHARACTERS_MAX = 56;
const SITE_NAME = /^[a-z][a-z0-9]{0,9}$/;
const SITES_MAX = 16;

/** $ANTIPODE_LAB, or the default. */
export function labDirectory(): string {
  return process.env['ANTIPODE_LAB'] ?? DEFAULT_DIRECTORY;
}

export function checkDirectory(directory: string): string {
  const path = resolve(directory);
  if (path.length <= DIRECTORY_CHARACTERS_MAX && /^\/[\w./-]+$/.test(path)) return path;
  throw new Failure('usage_invalid', `${path} cannot be a lab's directory`, {
    hint: `Use letters, digits, dots and dashes, at most ${DIRECTORY_CHARACTERS_MAX} characters long.`,
  });
}

export function labId(directory: string): string {
  return createHash('sha256').update(resolve(directory)).digest('hex').slice(0, 6);
}

/** Names of this lab's network namespaces begin with it, and no other lab's do. */
export function networkPrefix(id: string): string {
  return `antipode-${id}-`;
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function checkSiteNames(names: readonly string[]): void {
  for (const name of names) {
    if (SITE_NAME.test(name)) continue;
    throw new Failure('usage_invalid', `"${name}" cannot be a site's name`, {
      hint: 'Use a small letter, then up to 9 small letters and digits.',
    });
  }
  if (new Set(names).size !== names.length)
    throw new Failure('usage_invalid', 'two sites have the same name');
  if (names.length === 0 || names.length > SITES_MAX) {
    throw new Failure('usage_invalid', `a lab has 1 to ${SITES_MAX} sites, not ${names.length}`);
  }
}

/** Undefined when there is no lab. What was recorded before a reboot is dead: its processes are forgotten. */
export function loadState(directory: string): LabState | undefined {
  const path = join(directory, 'lab.json');
  if (!existsSync(path)) return undefined;
  let state: LabState;
  try {
    state = JSON.parse(readFileSync(path, 'utf8')) as LabState;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES') {
      throw new Failure('forbidden', `read ${path}`, { cause: error, hint: 'A lab is for root: use sudo.' });
    }
    throw new Failure('storage_corrupt', `read ${path}`, {
      cause: error,
      hint: 'Take the lab down with ./antipode lab down; that does not need the file.',
    });
  }
  if (state.version !== 1)
    throw new Failure('storage_corrupt', `${path} is of version ${String(state.version)}`);
  if (state.boot_id !== bootId()) {
    for (const site of state.sites) site.processes = {};
    state.boot_id = bootId();
  }
  return state;
}

export function saveState(directory: string, state: LabState): void {
  const path = join(directory, 'lab.json');
  writeFileSync(`${path}.new`, `${JSON.stringify(state, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
