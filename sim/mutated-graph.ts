/**
 * Loads the simulation once more with one line of production code changed (planted-bugs.ts).
 *
 * A module hook adds `?bug=NAME` to the address of every module of ours that the simulation imports, so the changed
 * copy has its own instances of everything, beside the unchanged one in the same process.
 * Invariant: a bug that is no longer in the source is an error, never a silent pass: the line must be there once.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { PLANTED_BUGS, type PlantedBug } from './planted-bugs.ts';

type RunSeed = typeof import('./run-seed.ts');

const ROOT = new URL('../', import.meta.url).href;
let isHooked = false;

/** The simulation with the bug in it. */
export async function loadWithBug(name: string): Promise<RunSeed> {
  const bug = PLANTED_BUGS.find((candidate) => candidate.name === name);
  assert(bug, `no planted bug ${name}; there are ${PLANTED_BUGS.map((each) => each.name).join(', ')}`);
  // Checked before anything is loaded, so that the error is about the bug and not about an import.
  mutate(bug, readFileSync(new URL(bug.file, ROOT), 'utf8'));
  if (!isHooked) hook();
  isHooked = true;
  return (await import(`./run-seed.ts?bug=${name}`)) as RunSeed;
}

function hook(): void {
  registerHooks({
    resolve(specifier, context, nextResolve) {
      const resolved = nextResolve(specifier, context);
      const bug = context.parentURL === undefined ? null : new URL(context.parentURL).searchParams.get('bug');
      const isOurs = resolved.url.startsWith(ROOT) && !resolved.url.includes('/node_modules/');
      if (bug === null || !isOurs || resolved.url.includes('?')) return resolved;
      return { ...resolved, url: `${resolved.url}?bug=${bug}` };
    },
    load(url, context, nextLoad) {
      const name = url.startsWith(ROOT) ? new URL(url).searchParams.get('bug') : null;
      const bug = name === null ? undefined : PLANTED_BUGS.find((candidate) => candidate.name === name);
      if (!bug || !url.startsWith(`${ROOT}${bug.file}?`)) return nextLoad(url, context);
      const source = mutate(bug, readFileSync(fileURLToPath(url), 'utf8'));
      return { format: 'module-typescript', source, shortCircuit: true };
    },
  });
}

/** The source with the bug in it. */
export function mutate({ name, file, line, becomes }: PlantedBug, source: string): string {
  const parts = source.split(line);
  assert.equal(
    parts.length,
    2,
    `planted bug ${name}: ${JSON.stringify(line)} is ${parts.length - 1} times in ${file}`,
  );
  return parts.join(becomes);
}
