/**
 * What whoever helps needs to see, in one archive: versions, configuration, findings, what the API tells, logs.
 *
 * Invariants: of the configuration only named fields are taken, so that a secret of a later version stays out; of
 * texts whatever looks like a secret is struck out; every part has its bound; the manifest says what is not there.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { release } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { describe, Failure } from '#/lib/failure.ts';
import { ownVersion } from '#/lib/version.ts';
import type { Examination } from './doctor.ts';
import { outputOf } from './gather-shared.ts';

const PART_CHARACTERS_MAX = 4 * 1024 * 1024;
const PART_TIMEOUT_MS = 15_000;
const LOG_LINES = 20_000;
const UNITS = ['antipode-manager', 'antipode-agent', 'antipode-replication-server', 'libvirtd'];
/** None of them can hold a secret. */
const FIELDS = [
  'data_directory',
  'site_name',
  'listen',
  'advertised_host',
  'socket_path',
  'store_directory',
  'run_directory',
  'libvirt_socket',
  'storage_directory',
  'scratch_directory',
  'hook_directory',
  'superseded_vm',
  'manager_url',
  'plan_commands_directory',
];
/** Answers of the API, by the rights of whoever asks; none of them tells a secret. */
const ASKED = [
  'site',
  'status',
  'alarms',
  'events',
  'hosts',
  'replication-servers',
  'sites',
  'replicas',
  'audit',
];

const SECRET_NAME = /password|passphrase|secret|private_?key/i;
/** Beside its name, in quotes or not, and in JSON that is itself in quotes. */
const NAMED_SECRET =
  /(\w*(?:password|passphrase|secret|private_?key)\w*[\\"']*\s*[:=]\s*[\\"']*)[^\s"'\\]+/gi;

export type BundleSources = {
  configDirectory: string;
  examination: Examination;
  /** What the manager answers to `GET /api/v1/NAME`. */
  ask: (name: string) => Promise<unknown>;
};
type Entry = { file: string; bytes: number; cut: boolean } | { file: string; left_out: string };
export type Manifest = { made: string; version: string; entries: Entry[] };

/** The archive, whole or not at all, readable by its owner alone. */
export async function makeBundle(path: string, sources: BundleSources): Promise<Manifest> {
  const directory = await mkdtemp(join(dirname(path), '.support-bundle-'));
  try {
    const name = basename(path).replace(/\.tar\.gz$/, '') || 'bundle';
    const root = join(directory, name);
    await mkdir(root, { mode: 0o700 });
    const entries = await Promise.all(partsOf(sources).map((part) => writePart(root, part)));
    const manifest = { made: new Date().toISOString(), version: ownVersion(), entries };
    await writeFile(join(root, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`);
    const archive = join(directory, 'archive');
    await run('tar', ['-czf', archive, '-C', directory, name]);
    await chmod(archive, 0o600);
    await rename(archive, path);
    return manifest;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

type Part = { file: string; read: (signal: AbortSignal) => Promise<string | undefined> };

function partsOf({ ask, configDirectory, examination }: BundleSources): Part[] {
  const tool = (file: string, program: string, args: string[]): Part => ({
    file,
    read: async (signal) => {
      const said = await outputOf(program, args, signal);
      return said === undefined ? undefined : withoutSecrets(said);
    },
  });
  return [
    {
      file: 'versions.json',
      read: async () => text({ antipode: ownVersion(), node: process.version, kernel: release() }),
    },
    { file: 'doctor.json', read: async () => text(examination) },
    ...['manager', 'agent', 'replication-server'].map((name) => ({
      file: `${name}.config.json`,
      read: async () => allowed(JSON.parse(await readFile(join(configDirectory, `${name}.json`), 'utf8'))),
    })),
    ...ASKED.map((name) => ({ file: `api-${name}.json`, read: async () => text(await ask(name)) })),
    ...UNITS.map((unit) =>
      tool(`${unit}.log`, 'journalctl', [
        '-u',
        unit,
        '-n',
        String(LOG_LINES),
        '-o',
        'short-iso',
        '--no-pager',
      ]),
    ),
    tool('libvirt-capabilities.xml', 'virsh', ['-r', 'capabilities']),
    tool('qemu.txt', 'qemu-system-x86_64', ['--version']),
    tool('disks.txt', 'df', ['-hi']),
  ];
}

/** Named fields, and that there are others. */
function allowed(value: unknown): string {
  if (typeof value !== 'object' || value === null) return text('not an object');
  const fields = Object.entries(value).map(([name, one]) => [
    name,
    FIELDS.includes(name) ? one : '(left out)',
  ]);
  return text(Object.fromEntries(fields));
}

/** What has the name of a secret is none of it, whatever it looks like; nor what looks like one, whatever its name. */
function text(value: unknown): string {
  const strike = (name: string, one: unknown): unknown => {
    if (typeof one !== 'string') return one;
    return SECRET_NAME.test(name) ? '(left out)' : withoutSecrets(one);
  };
  return `${JSON.stringify(value, strike, 2)}\n`;
}

async function writePart(root: string, { file, read }: Part): Promise<Entry> {
  try {
    const found = await bounded(read);
    if (found === undefined) return { file, left_out: 'its program is not installed here' };
    // The end of a log is what matters.
    const kept = found.length > PART_CHARACTERS_MAX ? found.slice(-PART_CHARACTERS_MAX) : found;
    await writeFile(join(root, file), kept, { mode: 0o600 });
    return { file, bytes: Buffer.byteLength(kept), cut: kept.length < found.length };
  } catch (error) {
    return { file, left_out: withoutSecrets(describe(error)).slice(0, 500) };
  }
}

async function bounded(read: Part['read']): Promise<string | undefined> {
  const stop = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      stop.abort();
      reject(new Failure('timeout', `nothing came back within ${PART_TIMEOUT_MS / 1000} s`));
    }, PART_TIMEOUT_MS);
  });
  try {
    return await Promise.race([read(stop.signal), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What looks like a secret: keys, tokens of ours and of others, passwords in addresses and beside their names. */
export function withoutSecrets(found: string): string {
  return found
    .replaceAll(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, '(key)')
    .replaceAll(/ap[a-z]{0,2}\d\.[\w.-]{8,}/g, '(token)')
    .replaceAll(/\bBearer\s+[\w.~+/=-]+/gi, 'Bearer (token)')
    .replaceAll(/([a-z][a-z0-9+.-]*:\/\/)[^\s/@"]+@/gi, '$1(left out)@')
    .replaceAll(/([?&][\w-]*(?:token|secret|password|key|sig)[\w-]*=)[^\s&"\\]+/gi, '$1(left out)')
    .replaceAll(NAMED_SECRET, '$1(left out)');
}

function run(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: 60_000 }, (error, _, said) => {
      if (error === null) resolve();
      else
        reject(new Failure('tool_failed', `run ${program}: ${said.trim().slice(0, 300)}`, { cause: error }));
    });
  });
}

/** Its length, for people. */
export async function bundleBytes(path: string): Promise<number> {
  return (await stat(path)).size;
}
