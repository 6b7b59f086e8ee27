/** Which networks, hosts and directories there are at this site, as its hosts report them. */
import { posix } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import type { Context } from '#/manager/context.ts';

export type Thing = { kind: 'network' | 'storage' | 'host'; name: string };

/**
 * A directory is known when it can be one: a recovery makes it on the host it chooses. Of networks and hosts the last
 * reports count, also of hosts that are silent now.
 */
export function isKnown({ inventory }: Context, { kind, name }: Thing): boolean {
  const agents = inventory.agents();
  switch (kind) {
    case 'network':
      return agents.some(({ report }) => report?.host.networks.includes(name) === true);
    case 'host':
      return agents.some((agent) => agent.name === name || agent.id === name);
    case 'storage':
      return isDirectory(name);
  }
}

/** Throws not_found, usage_invalid. */
export function checkKnown(context: Context, thing: Thing): void {
  if (isKnown(context, thing)) return;
  const { kind, name } = thing;
  if (kind === 'storage') throw badDirectory(name);
  const { config, inventory } = context;
  const agents = inventory.agents();
  const names =
    kind === 'host'
      ? agents.map((agent) => agent.name)
      : agents.flatMap((agent) => agent.report?.host.networks ?? []);
  const all = [...new Set(names)].slice(0, 50).join(', ');
  throw new Failure('not_found', `site ${config.siteName} has no ${kind} ${name}`, {
    hint: all === '' ? 'No host of it has reported yet: antipode hosts' : `It has: ${all}.`,
  });
}

/** Without the slash at its end. Throws usage_invalid. */
export function checkedDirectory(path: string): string {
  if (!isDirectory(path)) throw badDirectory(path);
  return path === '/' ? path : path.replace(/\/$/, '');
}

function isDirectory(path: string): boolean {
  return path.startsWith('/') && posix.normalize(path) === path && !/\p{Cc}/u.test(path);
}

function badDirectory(path: string): Failure {
  return new Failure('usage_invalid', `"${path}" is no directory's whole path`, {
    hint: 'Write it from the root, without . and .., such as /var/lib/libvirt/images.',
  });
}
