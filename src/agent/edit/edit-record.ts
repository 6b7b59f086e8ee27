/**
 * Carries an edit out in a guest's files, and takes it back: what was there before is kept beside, in the guest itself,
 * so that it is there too when the VM has gone back to where it came from.
 *
 * Invariant: what an edit changes is kept, on the disk, before any of it is changed.
 */
import { join } from 'node:path/posix';
import type { Edit } from './decide-edit.ts';
import { NAMES_MAX, parentOf, refused, type GuestTree } from './guest-tree.ts';

/** In /etc, which is part of every root; /var may be a file system of its own. */
export const KEEP = '/etc/antipode-network';
/** What was changed through the guest's agent is kept there, in the same form (src/agent/guest/customize.sh). */
const KEEP_OF_AGENT = '/var/lib/antipode/network';
const DEPTH_MAX = 8;
/** What an edit can have changed; a guest could have put other paths into what is kept. */
const CHANGEABLE = /^\/etc(\/[A-Za-z0-9][A-Za-z0-9._@:+-]*)+$/;

export async function applyEdit(tree: GuestTree, edit: Edit): Promise<void> {
  const paths = [...edit.writes.map(({ path }) => path), ...edit.removes];
  const absent: string[] = [];
  const making = `${KEEP}.new`;
  await tree.remove(making);
  for (const path of paths) {
    const kind = await tree.kind(path);
    if (kind === 'file') await tree.copy(path, `${making}/files${path}`);
    else if (kind === 'none') absent.push(path);
    else throw refused(`${path} is no plain file`);
  }
  await tree.makeDirectory(`${making}/files`);
  const lines = absent.map((path) => `${path}\n`).join('');
  await tree.write(`${making}/absent`, lines, { mode: 0o600, like: '/etc' });
  await tree.write(`${making}/method`, `${edit.method}\n`, { mode: 0o600, like: '/etc' });
  await tree.sync();
  await tree.move(making, KEEP);
  await tree.sync();
  for (const { path, content, mode } of edit.writes) {
    const parent = parentOf(path);
    await tree.makeDirectory(parent);
    await tree.write(path, content, { mode, like: absent.includes(path) ? parent : path });
  }
  for (const path of edit.removes) await tree.remove(path);
  await tree.sync();
}

/** Puts back what any edit has kept; false when there is nothing. May be repeated. */
export async function restoreFiles(tree: GuestTree): Promise<boolean> {
  let isRestored = false;
  // The last change is taken back first.
  for (const keep of [KEEP, KEEP_OF_AGENT]) {
    if ((await tree.kind(keep)) !== 'directory') continue;
    const absent = await tree.read(`${keep}/absent`);
    for (const path of absent.split('\n').slice(0, NAMES_MAX)) {
      if (CHANGEABLE.test(path)) await tree.remove(path);
    }
    for (const path of await filesIn(tree, `${keep}/files`)) {
      if (!CHANGEABLE.test(path)) continue;
      await tree.remove(path);
      await tree.copy(`${keep}/files${path}`, path);
    }
    await tree.sync();
    await tree.remove(keep);
    isRestored = true;
  }
  if (isRestored) await tree.sync();
  return isRestored;
}

/** Plain files below the directory, as they would be named from it. */
async function filesIn(tree: GuestTree, directory: string): Promise<string[]> {
  const found: string[] = [];
  const walk = async (below: string, depth: number): Promise<void> => {
    for (const name of await tree.list(join(directory, below))) {
      const path = `${below}/${name}`;
      const kind = await tree.kind(directory + path);
      if (kind === 'file') found.push(path);
      if (kind === 'directory' && depth < DEPTH_MAX) await walk(path, depth + 1);
      if (found.length > NAMES_MAX) throw refused(`${directory} has more than ${NAMES_MAX} files`);
    }
  };
  await walk('', 0);
  return found;
}
