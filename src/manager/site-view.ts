/**
 * The rows of the VM table and the overview made of them. Rows are made again only after something changed, so many
 * browsers that look at 10,000 VMs cost what one does.
 */
import type { Overview } from '#/api/overview.ts';
import { PAGE_MAX } from '#/api/common.ts';
import type { VmRow, VmTable, VmTableQuery } from '#/api/vm-table.ts';
import { sites, vms } from './http/views.ts';
import type { Manager } from './manager.ts';
import { flowsOf, gatherNeeds } from './overview.ts';
import { countStandings, pressureOf, selectRows, vmRows } from './vm-table.ts';

const WORST = 8;
/** Of the needs; how many there are in all is said beside them. */
const NEEDS = 20;
/** A change that nobody tells of, such as a report that grows too old, is seen after this. */
const ROWS_FRESH_MS = 1000;

export class SiteView {
  readonly #manager: Manager;
  #rows: { atMs: number; rows: Promise<VmRow[]> } | undefined;

  constructor(manager: Manager) {
    this.#manager = manager;
    for (const topic of ['orders', 'reports', 'jobs', 'events'] as const) {
      manager.context.changes.listen(topic, () => (this.#rows = undefined));
    }
  }

  async table(query: VmTableQuery): Promise<VmTable> {
    const rows = await this.rows();
    const matching = selectRows(rows, query);
    const offset = query.offset ?? 0;
    return {
      now_ms: this.#manager.context.clock.now(),
      items: matching.slice(offset, offset + (query.limit ?? PAGE_MAX)),
      total: matching.length,
      counts: countStandings(rows),
    };
  }

  async overview(): Promise<Overview> {
    const { clock, config, identity, inventory } = this.#manager.context;
    const rows = await this.rows();
    const known = await sites(this.#manager);
    const needs = await gatherNeeds(this.#manager, rows, known);
    const agents = inventory.agents();
    const servers = inventory.servers();
    const alive = (members: readonly { reportMs: number | undefined }[]) => ({
      total: members.length,
      alive: members.filter((member) => inventory.isFresh(member)).length,
    });
    return {
      now_ms: clock.now(),
      site_id: identity.siteId,
      site_name: config.siteName,
      sites: known,
      counts: countStandings(rows),
      hosts: alive(agents),
      replication_servers: alive(servers),
      flows: flowsOf(rows, known, config.siteName),
      worst: rows
        .filter((row) => pressureOf(row) >= 0)
        .toSorted((a, b) => pressureOf(b) - pressureOf(a))
        .slice(0, WORST),
      needs: needs.slice(0, NEEDS),
      need_count: needs.length,
    };
  }

  rows(): Promise<VmRow[]> {
    const nowMs = this.#manager.context.clock.monotonicMs();
    if (this.#rows !== undefined && nowMs - this.#rows.atMs < ROWS_FRESH_MS) return this.#rows.rows;
    const made = { atMs: nowMs, rows: this.#make() };
    this.#rows = made;
    made.rows.catch(() => {
      if (this.#rows === made) this.#rows = undefined;
    });
    return made.rows;
  }

  async #make(): Promise<VmRow[]> {
    const { context, replicas, status } = this.#manager;
    return vmRows({
      vms: await vms(this.#manager),
      statuses: await status.vms(),
      replicas: await replicas.list(),
      inventory: context.inventory,
      nowMs: context.clock.now(),
    });
  }
}
