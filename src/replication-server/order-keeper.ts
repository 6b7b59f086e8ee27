/**
 * The newest order of each replica, kept beside it as `order.json` (docs/storage-format.md, section 2): a manager and a
 * server that have both lost what they had are told whose replica it is, and how it was protected.
 *
 * Invariant: nothing of a replica depends on the file. One that is missing or damaged is written again with the orders.
 */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { Check } from 'typebox/value';
import { ReplicaOrder } from '#/control/orders.ts';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { Mutex } from '#/lib/mutex.ts';

const FILE = 'order.json';

export class OrderKeeper {
  readonly #storePath: string;
  readonly #log: Log;
  readonly #turn = new Mutex();
  /** What stands on disk, by replica. */
  readonly #written = new Map<string, string>();

  constructor(storePath: string, log: Log) {
    this.#storePath = storePath;
    this.#log = log;
  }

  /** The orders beside these replicas, as far as they can be read. */
  async read(replicaIds: Iterable<string>): Promise<ReplicaOrder[]> {
    const found: ReplicaOrder[] = [];
    for (const id of replicaIds) {
      const order = await this.#readOne(id);
      if (order !== undefined) found.push(order);
    }
    return found;
  }

  /** Writes what differs from what is there. A replica that has not been made yet gets its order later. */
  async keep(orders: Iterable<ReplicaOrder>): Promise<void> {
    await this.#turn.run(async () => {
      for (const order of orders) {
        try {
          await this.#keepOne(order);
        } catch (error) {
          // A full or failing disk: the next orders, or the next start, try again.
          if (failureIn(error) === undefined) throw error;
          this.#log.warning('order.unwritten', { replica: order.replica_id, ...failureFields(error) });
        }
      }
    });
  }

  async #keepOne(order: ReplicaOrder): Promise<void> {
    const { replica_id: id } = order;
    const text = JSON.stringify(order);
    if (this.#written.get(id) === text || !(await isThere(join(this.#storePath, id)))) return;
    const before = this.#written.has(id) ? undefined : await this.#readOne(id);
    if (before === undefined || JSON.stringify(before) !== text)
      await writeDurableJson(this.#path(id), order);
    this.#written.set(id, text);
  }

  async #readOne(replicaId: string): Promise<ReplicaOrder | undefined> {
    try {
      const value = await readDurableJson(this.#path(replicaId));
      return Check(ReplicaOrder, value) && value.replica_id === replicaId ? value : undefined;
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#log.warning('order.unreadable', { replica: replicaId, ...failureFields(error) });
      return undefined;
    }
  }

  #path(replicaId: string): string {
    return join(this.#storePath, replicaId, FILE);
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
