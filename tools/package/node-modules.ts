/**
 * Which npm packages the programs run on: the closure of package.json's dependencies over the lock file, without what
 * only developers and the web page's build need, and without the files of a package that no program reads.
 */
import { cpSync, existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { Failure } from '#/lib/failure.ts';

type LockEntry = {
  version?: string;
  license?: string;
  optional?: boolean;
  peer?: boolean;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
};
type Lock = { packages: Record<string, LockEntry> };

export type ShippedPackage = {
  /** As in node_modules, which may be nested. */
  path: string;
  name: string;
  version: string;
  license: string;
};

/** Types, maps and words for developers; and the directories of tests and examples at the top of a package. */
const LEFT_OUT_FILES =
  /\.(d\.[cm]?ts|[cm]?ts|map|markdown|flow|tsbuildinfo)$|^(?!licen[cs]e|notice|copying).*\.md$/i;
const LEFT_OUT_DIRECTORIES = new Set([
  'test',
  'tests',
  'docs',
  'examples',
  'benchmarks',
  'benchmark',
  '.github',
]);

/**
 * Sorted by path: of the programs, or of the web page, for the licences of what it is built of. `root` is the checkout.
 * Packages that hold Node itself are none of these.
 */
export function shippedPackages(root: string, workspace: '' | 'web' = ''): ShippedPackage[] {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lock;
  const found = new Map<string, ShippedPackage>();
  const queue: { from: string; names: string[] }[] = [
    { from: workspace, names: Object.keys(lock.packages[workspace]?.dependencies ?? {}) },
  ];
  for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
    for (const name of next.names) {
      const path = resolvePath(lock, next.from, name);
      // A peer or optional dependency that nobody installed is none.
      if (path === undefined || found.has(path)) continue;
      const entry = lock.packages[path]!;
      found.set(path, { path, name, version: entry.version ?? '', license: entry.license ?? 'unknown' });
      const { dependencies, optionalDependencies, peerDependencies } = entry;
      queue.push({
        from: path,
        names: Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }),
      });
    }
  }
  return [...found.values()]
    .filter((each) => isInstalled(root, each, lock))
    .toSorted((a, b) => (a.path < b.path ? -1 : 1));
}

function isInstalled(root: string, { path }: ShippedPackage, lock: Lock): boolean {
  if (existsSync(join(root, path))) return true;
  const { optional, peer } = lock.packages[path]!;
  if (optional === true || peer === true) return false;
  throw new Failure('not_found', `${path} is not installed, and programs need it`, { hint: 'Run: npm ci' });
}

/** As Node looks for it: in the package's own node_modules, then in those around it. */
function resolvePath(lock: Lock, from: string, name: string): string | undefined {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
    const path = `${at === '' ? '' : `${at}/`}node_modules/${name}`;
    if (path in lock.packages) return path;
    if (at === '') return undefined;
  }
}

/** Copies what a program may read of a package. Packages nested in it are copied on their own. */
export function copyPackage(root: string, shipped: ShippedPackage, target: string): void {
  const source = join(root, shipped.path);
  cpSync(source, join(target, shipped.path), {
    recursive: true,
    filter: (path) => {
      const inside = relative(source, path);
      if (inside === 'node_modules' || LEFT_OUT_DIRECTORIES.has(inside)) return false;
      return statSync(path).isDirectory() || !LEFT_OUT_FILES.test(basename(path));
    },
  });
}

/** The text of a package's licence, if it brings one. */
export function licenceText(root: string, { path }: ShippedPackage): string | undefined {
  const names = readdirSync(join(root, path)).filter((name) => /^(licen[cs]e|copying|notice)/i.test(name));
  const texts = names.toSorted().map((name) => readFileSync(join(root, path, name), 'utf8').trimEnd());
  return texts.length === 0 ? undefined : texts.join('\n\n');
}
