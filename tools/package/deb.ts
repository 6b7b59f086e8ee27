/**
 * One .deb of a directory that holds its files: control file, checksums, and an archive that is the same, byte for
 * byte, for the same files and the same time (docs/decisions/0020-packages.md).
 *
 * Everything belongs to root; modes are those of the tree without the umask's whims; times are SOURCE_DATE_EPOCH.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { run } from '#lab/command.ts';

export type DebPackage = {
  name: string;
  version: string;
  architecture: 'amd64' | 'arm64';
  depends: readonly string[];
  recommends: readonly string[];
  suggests: readonly string[];
  /** One line, then what a person who looks for a package reads. */
  summary: string;
  description: string;
  /** Names of DEBIAN/ and their texts: maintainer scripts, conffiles, triggers. */
  controlFiles: ReadonlyMap<string, string>;
};

export type DebOptions = {
  outDirectory: string;
  epochSeconds: number;
  /** zstd's level: 9 for what is handed out, 1 for tests. */
  level: number;
};

export type BuiltDeb = { name: string; path: string; bytes: number; installed_bytes: number; sha256: string };

/** Of the longest compression, on a slow machine. */
const BUILD_TIMEOUT_MS = 600_000;
const SCRIPTS = new Set(['preinst', 'postinst', 'prerm', 'postrm']);
/** Directories that are not for all to look into. */
const MODES: Record<string, number> = { 'var/lib/antipode': 0o711 };

export async function buildDeb(tree: string, about: DebPackage, options: DebOptions): Promise<BuiltDeb> {
  const control = join(tree, 'DEBIAN');
  const files = listFiles(tree);
  const bytes = files.reduce((sum, path) => sum + lstatSync(join(tree, path)).size, 0);
  mkdirSync(control, { recursive: true });
  writeFileSync(join(control, 'control'), controlText(about, bytes));
  writeFileSync(
    join(control, 'md5sums'),
    files.map((path) => `${md5(join(tree, path))}  ${path}\n`).join(''),
  );
  for (const [name, text] of about.controlFiles) writeFileSync(join(control, name), text);
  normalize(tree, options.epochSeconds);
  const path = join(options.outDirectory, `${about.name}_${about.version}_${about.architecture}.deb`);
  // xz's blocks depend on the number of threads, zstd's stream does not; Debian 12 and Ubuntu 22.04 read it.
  const argv = ['dpkg-deb', '--root-owner-group', '-Zzstd', `-z${options.level}`, '--build', tree, path];
  await run(argv, {
    timeoutMs: BUILD_TIMEOUT_MS,
    env: { ...process.env, SOURCE_DATE_EPOCH: String(options.epochSeconds) },
  });
  const sha256 = createHash('sha256').update(readFileSync(path)).digest('hex');
  return { name: about.name, path, bytes: statSync(path).size, installed_bytes: bytes, sha256 };
}

/** Sorted; relative to `tree`; no directories, nothing of DEBIAN. */
export function listFiles(tree: string): string[] {
  const entries = readdirSync(tree, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(tree, join(entry.parentPath, entry.name)))
    .filter((path) => !path.startsWith('DEBIAN/'))
    .toSorted();
}

function controlText(about: DebPackage, bytes: number): string {
  const fields: [string, string][] = [
    ['Package', about.name],
    ['Version', about.version],
    ['Architecture', about.architecture],
    ['Maintainer', 'Antipode developers <root@localhost>'],
    ['Installed-Size', String(Math.ceil(bytes / 1024))],
    ['Depends', about.depends.join(', ')],
    ['Recommends', about.recommends.join(', ')],
    ['Suggests', about.suggests.join(', ')],
    ['Section', 'admin'],
    ['Priority', 'optional'],
    ['Description', `${about.summary}\n${about.description.replaceAll(/^/gm, ' ')}`],
  ];
  return fields
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `${name}: ${value}\n`)
    .join('');
}

function md5(path: string): string {
  return createHash('md5').update(readFileSync(path)).digest('hex');
}

function normalize(tree: string, epochSeconds: number): void {
  const paths = readdirSync(tree, { recursive: true, encoding: 'utf8' });
  for (const path of [...paths, '.']) {
    const full = join(tree, path);
    const about = lstatSync(full);
    if (!about.isSymbolicLink()) {
      const isExecutable = about.isDirectory() || (about.mode & 0o100) !== 0 || isScript(path);
      chmodSync(full, MODES[path] ?? (isExecutable ? 0o755 : 0o644));
    }
    lutimesSync(full, epochSeconds, epochSeconds);
  }
}

function isScript(path: string): boolean {
  return path.startsWith('DEBIAN/') && SCRIPTS.has(path.slice('DEBIAN/'.length));
}
