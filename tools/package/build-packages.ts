/** Builds all packages of a checkout: their version and time from its commit, their trees, their archives. */
import { mkdirSync, readFileSync } from 'node:fs';
import { arch } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { completionScript, SHELLS } from '#/cli/completion-scripts.ts';
import { createProgram } from '#/cli/program.ts';
import { Failure } from '#/lib/failure.ts';
import { run } from '#lab/command.ts';
import { CONTENTS, type Architecture } from './contents.ts';
import { buildDeb, type BuiltDeb } from './deb.ts';
import { manPages } from './man-pages.ts';

export type BuildOptions = {
  outDirectory: string;
  workDirectory: string;
  version: string | undefined;
  isQuick: boolean;
};

const ARCHITECTURES: Record<string, Architecture> = { x64: 'amd64', arm64: 'arm64' };
/** The highest take minutes on two busy cores. */
const LEVEL = 9;
const QUICK_LEVEL = 1;
/** What Debian takes for the version of a package without a revision. */
const VERSION = /^[0-9][0-9A-Za-z.+~]*$/;

export async function buildPackages(root: string, options: BuildOptions): Promise<BuiltDeb[]> {
  const architecture = ARCHITECTURES[arch()];
  if (architecture === undefined) throw new Failure('usage_invalid', `there is no Node for ${arch()}`);
  const commit = await commitOf(root);
  const version = options.version ?? (await versionOf(root, commit));
  if (!VERSION.test(version)) {
    throw new Failure('usage_invalid', `"${version}" is no version of a Debian package`, {
      hint: 'Digits first, then letters, digits and . + ~',
    });
  }
  const generated = await generatedFiles(root);
  const built: BuiltDeb[] = [];
  for (const fill of CONTENTS) {
    const tree = join(options.workDirectory, String(built.length));
    mkdirSync(tree);
    const about = fill({ root, version, architecture, generated }, tree);
    built.push(
      await buildDeb(tree, about, {
        outDirectory: options.outDirectory,
        epochSeconds: commit.epochSeconds,
        level: options.isQuick ? QUICK_LEVEL : LEVEL,
      }),
    );
  }
  return built;
}

const COMPLETIONS = {
  bash: 'usr/share/bash-completion/completions/antipode',
  zsh: 'usr/share/zsh/vendor-completions/_antipode',
  fish: 'usr/share/fish/vendor_completions.d/antipode.fish',
} as const;

async function generatedFiles(root: string): Promise<Map<string, string | Uint8Array>> {
  const files = new Map<string, string | Uint8Array>();
  const program = await createProgram();
  for (const shell of SHELLS) files.set(COMPLETIONS[shell], completionScript(shell, program));
  for (const [path, text] of await manPages(root)) {
    files.set(`usr/share/man/${path}.gz`, gzipSync(text, { level: 9 }));
  }
  return files;
}

type Commit = { hash: string; epochSeconds: number };

async function commitOf(root: string): Promise<Commit> {
  const { stdout } = await run(['git', '-C', root, 'log', '-1', '--format=%h %ct', '--abbrev=10']);
  const [hash, seconds] = stdout.trim().split(' ');
  return { hash: hash ?? '', epochSeconds: Number(seconds) };
}

/** A version that is not out yet sorts before it; a tree that differs from its commit says so. */
async function versionOf(root: string, { hash, epochSeconds }: Commit): Promise<string> {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  const git = ['git', '-C', root];
  const [tags, changes] = await Promise.all([
    run([...git, 'tag', '--points-at', 'HEAD']),
    run([...git, 'status', '--porcelain', '--untracked-files=no']),
  ]);
  const isDirty = changes.stdout.trim() !== '';
  if (!isDirty && tags.stdout.split('\n').includes(`v${version}`)) return version;
  const time = new Date(epochSeconds * 1000).toISOString().replaceAll(/\D/g, '').slice(0, 12);
  return `${version}~git${time}.${hash}${isDirty ? '.dirty' : ''}`;
}
