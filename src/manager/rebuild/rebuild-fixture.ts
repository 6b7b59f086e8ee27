/** For tests: a site that loses its manager's database, and programs that are let in again. */
import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ProtectionView } from '#/api/protections.ts';
import type { RebuildView } from '#/api/rebuild.ts';
import { hasCode } from '#/lib/failure.ts';
import type { FakeAgent, FakeServer, TestSite, twoSites } from '#/manager/site-fixture.ts';

const AGES = [-2000, -1000];

/** The manager ends, its database goes, its keys stay, and it comes back. */
export async function loseDatabase(site: TestSite): Promise<void> {
  await site.stop();
  for (const end of ['', '-wal', '-shm']) {
    await rm(join(site.config.dataDirectory, `manager.db${end}`), { force: true });
  }
  await site.restart();
}

export async function isRefused(program: FakeAgent | FakeServer): Promise<boolean> {
  try {
    await program.send();
    return false;
  } catch (error) {
    if (hasCode(error, 'certificate_invalid')) return true;
    throw error;
  }
}

/** Reports, and tells what it keeps when the manager wants it: as the real program does. */
export async function reportAndTell(program: FakeAgent | FakeServer): Promise<void> {
  const { tell_orders: isWanted } = await program.send();
  if (isWanted !== true) return;
  const { client, orders } = program;
  const kept = 'fences' in program ? { orders: orders ?? null, fences: program.fences } : undefined;
  const beside = 'beside' in program ? program.beside : [];
  const body = kept ?? { orders: orders ?? null, replicas: beside };
  await client.tell(body as Parameters<typeof client.tell>[0], AbortSignal.timeout(5000));
}

export async function rebuild(
  site: TestSite,
  programs: readonly (FakeAgent | FakeServer)[],
  body: { without?: string[] } = {},
): Promise<RebuildView> {
  for (const program of programs) assert(await isRefused(program));
  const open = await site.api<RebuildView>('POST', '/rebuild', body);
  assert.equal(open.state, 'open');
  for (const program of programs) await reportAndTell(program);
  for (let tries = 0; tries < 5; tries++) {
    const view = await site.api<RebuildView>('POST', '/rebuild', body);
    if (view.state === 'none') return view;
  }
  throw new Error(`still open: ${(await site.api<RebuildView>('GET', '/rebuild')).missing.join('; ')}`);
}

export async function protectLedger(sites: Awaited<ReturnType<typeof twoSites>>): Promise<ProtectionView> {
  const request = { vm: 'ledger', site: 'east', rpo_ms: 60_000 };
  const protection = await sites.west.api<ProtectionView>('POST', '/protections', request);
  const nowMs = Date.now();
  await sites.eastServer.now();
  await sites.eastServer.holds(
    protection.replica_id!,
    AGES.map((ms) => nowMs + ms),
    { source_site_id: sites.west.manager.context.identity.siteId },
  );
  await sites.westAgent.now();
  await sites.eastAgent.now();
  return protection;
}
