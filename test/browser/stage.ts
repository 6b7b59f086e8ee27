/**
 * Two real managers with what a person would look at: VMs that are protected and age, some late, some that cannot be
 * protected, points, a plan. Hosts and replication servers are played by this process through the real protocol.
 *
 * `node test/browser/stage.ts` keeps the stage up and says how to get in, for work on the page.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReplicaReport, ReplicationReport, VmReport } from '#/control/reports.ts';
import { failureIn } from '#/lib/failure.ts';
import { GIB, ledgerVm, twoSites, type TestSite } from '#/manager/site-fixture.ts';

/** A replica that this process plays. */
type Played = {
  replicaId: string;
  vm: VmReport;
  rpoMs: number;
  /** Points come this often; the RPO is missed where that is longer than it. */
  everyMs: number;
  moments: number[];
};

const NAMES = ['ledger', 'shop-db', 'shop-web', 'mail', 'wiki', 'build', 'metrics', 'dns'];
const RPO_MS = 10_000;
const HISTORY = 900;
const LATE = 'mail';

export type Stage = Awaited<ReturnType<typeof openStage>>;

export async function openStage() {
  const sites = await twoSites();
  const { eastServer, westAgent } = sites;
  const vms = NAMES.map((name, index) => ledgerVm({ uuid: uuidOf(index), name }));
  const refused = ledgerVm({
    uuid: uuidOf(90),
    name: 'san-volume',
    refusals: ['Disk vdb is a host device that is passed through; its changes cannot be tracked.'],
  });
  const idle = ledgerVm({ uuid: uuidOf(91), name: 'scratch', state: 'shutoff' });
  westAgent.report.vms = [...vms, refused, idle];
  await westAgent.send();
  const played: Played[] = [];
  for (const vm of vms) {
    const { replica_id: replicaId } = await sites.west.api<{ replica_id: string }>('POST', '/protections', {
      vm: vm.name,
      site: 'east',
      rpo_ms: RPO_MS,
    });
    const everyMs = vm.name === LATE ? 60_000 : 6000;
    played.push({ replicaId, vm, rpoMs: RPO_MS, everyMs, moments: history(everyMs) });
  }
  const stop = new AbortController();
  const report = async (): Promise<void> => {
    for (const one of played) advance(one);
    westAgent.report.replications = played.map(replication);
    await eastServer.now();
    eastServer.report.replicas = played.map((one) => ({ ...replica(one), ...bookmarkedOf(one.replicaId) }));
    for (const program of [eastServer, westAgent, sites.eastAgent]) await program.send();
  };
  const bookmarkedOf = (replicaId: string): Pick<ReplicaReport, 'bookmarked'> => {
    const order = eastServer.orders?.replicas.find(({ replica_id: id }) => id === replicaId);
    return order?.bookmarks === undefined ? {} : { bookmarked: order.bookmarks.map((one) => one.sequence) };
  };
  const play = async (): Promise<void> => {
    while (!stop.signal.aborted) {
      // On a busy machine a report may be late; programs send the next one.
      await report().catch((error: unknown) => {
        if (failureIn(error)?.retry === undefined) throw error;
      });
      await sleep(1000, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  };
  const playing = play();
  await makePlan(sites.east);
  return {
    ...sites,
    url: (site: TestSite): string => `https://${site.address.host}:${site.address.port}`,
    /** The VM gets its points in time from now on. */
    catchUp: (name: string): void => {
      for (const one of played) if (one.vm.name === name) one.everyMs = 6000;
    },
    /** Where the first administrator is made. */
    firstLink: async (site: TestSite): Promise<string> =>
      (await site.api<{ url: string }>('POST', '/first-links')).url,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await playing;
      await sites[Symbol.asyncDispose]();
    },
  };
}

async function makePlan(east: TestSite): Promise<void> {
  await east.api('POST', '/groups', {
    name: 'shop',
    site: 'west',
    vms: ['shop-db', 'shop-web', 'dns'],
  });
  await east.api('POST', '/plans', {
    name: 'shop',
    groups: ['shop'],
    vms: {
      dns: { priority: 1 },
      'shop-db': { priority: 2 },
      'shop-web': { priority: 3, depends_on: ['shop-db'] },
    },
    before: [{ kind: 'message', name: 'ask', text: "Is the network people's work done?" }],
  });
  await east.api('POST', '/groups', { name: 'office', site: 'west', vms: ['mail', 'wiki'] });
  await east.api('POST', '/plans', {
    name: 'office',
    groups: ['office'],
    before: [{ kind: 'message', name: 'ask', text: 'Has the office been told?' }],
  });
}

export function uuidOf(index: number): string {
  return `7a2c9a52-6d1e-4a70-9c53-${index.toString(16).padStart(12, '0')}`;
}

function history(everyMs: number): number[] {
  const nowMs = Date.now() - (everyMs > RPO_MS ? everyMs / 3 : 0);
  return Array.from(
    { length: HISTORY },
    (_, index) => nowMs - (HISTORY - index) * everyMs + (index % 5) * 100,
  );
}

function advance(one: Played): void {
  const nowMs = Date.now();
  if (nowMs - one.moments.at(-1)! >= one.everyMs) one.moments = [...one.moments.slice(1), nowMs - 200];
}

function replica(one: Played): ReplicaReport {
  return {
    replica_id: one.replicaId,
    vm_uuid: one.vm.uuid,
    vm_name: one.vm.name,
    epoch: 1,
    state: 'ready',
    points: one.moments.map((momentMs, index) => ({
      sequence: index + 1,
      stamp: `stamp-${index + 1}`,
      moment_ms: momentMs,
      acknowledged_ms: momentMs + 300,
      consistency: 'crash',
      delta_bytes: 64 * 1024 * (1 + ((index * 7) % 40)),
    })),
    point_count: one.moments.length,
    stored_bytes: Math.round(1.3 * GIB),
    failure: null,
  };
}

function replication(one: Played): ReplicationReport {
  const momentMs = one.moments.at(-1)!;
  const changed = 2 * 1024 ** 2 * (1 + (one.vm.name.length % 4));
  return {
    replica_id: one.replicaId,
    state: 'replicating',
    sequence: one.moments.length,
    moment_ms: momentMs,
    last_cycle: {
      started_ms: momentMs,
      duration_ms: 300,
      read_bytes: 2 * changed,
      changed_bytes: changed,
      wire_bytes: Math.round(changed / 2),
    },
    progress: null,
    failure: null,
    notices: [],
  };
}

/** For tables that are long: VMs that are on a host and not protected. */
export function manyVms(count: number): VmReport[] {
  return Array.from({ length: count }, (_, index) =>
    ledgerVm({
      uuid: uuidOf(1000 + index),
      name: `vm-${String(index).padStart(5, '0')}`,
      memory_bytes: GIB,
      state: index % 7 === 0 ? 'shutoff' : 'running',
    }),
  );
}

if (import.meta.main) {
  await using stage = await openStage();
  for (const site of [stage.west, stage.east]) {
    process.stdout.write(`${stage.url(site)}  ${await stage.firstLink(site)}\n`);
  }
  await new Promise((resolve) => process.once('SIGINT', resolve));
}
