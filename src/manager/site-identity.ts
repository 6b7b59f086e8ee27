/** Who this site and its manager are: made at the first start, kept beside the authority's key for ever. */
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import type { Random } from '#/lib/random.ts';
import { newId } from './ids.ts';
import { readFileIfThere, writeSecretFile } from './secret-file.ts';

export type SiteIdentity = { siteId: string; managerId: string };

export async function openSiteIdentity(directory: string, random: Random): Promise<SiteIdentity> {
  const path = join(directory, 'site.json');
  const text = await readFileIfThere(path);
  if (text !== undefined) return decode(text, path);
  const identity = { site_id: newId(random, 'site'), manager_id: newId(random, 'manager') };
  await writeSecretFile(path, `${JSON.stringify(identity)}\n`);
  return { siteId: identity.site_id, managerId: identity.manager_id };
}

function decode(text: string, path: string): SiteIdentity {
  try {
    const { site_id: siteId, manager_id: managerId } = JSON.parse(text) as Record<string, unknown>;
    if (typeof siteId === 'string' && typeof managerId === 'string') return { siteId, managerId };
  } catch (error) {
    throw new Failure('storage_corrupt', `${path} is not JSON`, { cause: error });
  }
  throw new Failure('storage_corrupt', `${path} names no site_id and manager_id`, {
    hint: 'Restore it from a backup.',
  });
}
