/**
 * `antipode package`: builds the Debian packages of this checkout (docs/decisions/0020-packages.md).
 *
 * The same commit gives the same bytes: every time in them is that of the commit.
 */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import { buildPackages } from './build-packages.ts';

const ROOT = join(import.meta.dirname, '../..');
const HELP = `usage: ./antipode package [--out DIR] [--version VERSION] [--quick] [--json]

Builds antipode-common, antipode-manager, antipode-replication-server and antipode-agent as .deb files for this kind of
machine: their own Node, the sources, what they need of npm, the web page, man pages and completion.

  --out DIR          where they go; packages/ below .cache if not given
  --version VERSION  instead of package.json's, to which the commit is added unless it has the tag of that version
  --quick            compressed in seconds instead of as small as it goes
  --json             what was built, with sizes and SHA-256, as one object

  ./antipode package --out /tmp/packages
  apt-get install /tmp/packages/antipode-*.deb`;

const OPTIONS = {
  out: { type: 'string' },
  version: { type: 'string' },
  quick: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

async function main(argv: string[]): Promise<void> {
  const { values } = parse(argv);
  if (values.help === true) {
    process.stdout.write(`${HELP}\n`);
    return;
  }
  const outDirectory = resolve(values.out ?? join(ROOT, '.cache/packages'));
  mkdirSync(outDirectory, { recursive: true });
  const workDirectory = mkdtempSync(join(tmpdir(), 'antipode-package-'));
  try {
    const built = await buildPackages(ROOT, {
      outDirectory,
      workDirectory,
      version: values.version,
      isQuick: values.quick === true,
    });
    if (values.json === true) {
      process.stdout.write(`${JSON.stringify({ packages: built })}\n`);
      return;
    }
    for (const { path, bytes, installed_bytes: installed, sha256 } of built) {
      process.stdout.write(`${path}  ${mib(bytes)}, ${mib(installed)} installed\n  sha256 ${sha256}\n`);
    }
  } finally {
    rmSync(workDirectory, { recursive: true, force: true });
  }
}

function parse(argv: string[]) {
  try {
    return parseArgs({ args: argv, options: OPTIONS });
  } catch (error) {
    throw new Failure('usage_invalid', `package: ${describe(error)}`, {
      cause: error,
      hint: './antipode package --help says how it is written.',
    });
  }
}

function mib(bytes: number): string {
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const failure = failureIn(error);
  if (failure === undefined) throw error;
  process.stderr.write(
    `antipode: ${describe(failure)}\n${failure.hint === undefined ? '' : `${failure.hint}\n`}`,
  );
  process.exitCode = failure.exitCode;
}
