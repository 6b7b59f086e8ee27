/**
 * Two sites, and others beside them where a test needs more, in a directory of their own, and the few calls of their
 * managers that benchmarks and tests make.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ProtectionView } from '#/api/protections.ts';
import type { PointView, ReplicaView } from '#/api/replicas.ts';
import { requestJson } from '#/cli/http-json.ts';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { Lab } from './lab.ts';
import type { Site } from './site.ts';

const POLL_MS = 20;
/** Asking for points takes a processor's time from the cycle that is waited for; when they were made is in them. */
const POINT_POLL_MS = 250;
const PATIENCE_MS = 300_000;

/** Those that this process makes or has made and not yet removed, by their directories. */
const standing = new Map<string, Promise<unknown>>();

export class TwoSites implements AsyncDisposable {
  readonly lab: Lab;
  readonly west: Site;
  readonly east: Site;
  readonly #parent: string;

  private constructor(lab: Lab, parent: string) {
    this.lab = lab;
    this.#parent = parent;
    this.west = lab.site('west');
    this.east = lab.site('east');
  }

  static async up(say: (line: string) => void, others: readonly string[] = []): Promise<TwoSites> {
    const parent = await mkdtemp(join(tmpdir(), 'antipode-sites-'));
    try {
      const up = Lab.up({ directory: join(parent, 'lab'), sites: ['west', 'east', ...others], say });
      standing.set(parent, up);
      return new TwoSites(await up, parent);
    } catch (error) {
      await rm(parent, { recursive: true, force: true });
      standing.delete(parent);
      throw error;
    }
  }

  /** All that this process has made, once it is whole: for a process that is told to end. */
  static async downAll(): Promise<void> {
    for (const [parent, up] of standing) {
      await Promise.allSettled([up]);
      await Lab.down(join(parent, 'lab'));
      await rm(parent, { recursive: true, force: true });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.lab[Symbol.asyncDispose]();
    await rm(this.#parent, { recursive: true, force: true });
    standing.delete(this.#parent);
  }

  async api<T>(site: Site, method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<T> {
    const target = { kind: 'unix', socketPath: site.managerSocket } as const;
    return (await requestJson(target, { method, path: `/api/v1${path}`, body })) as T;
  }

  /** Protects a VM, at west to east unless told otherwise; resolves when the manager has accepted it. */
  async protect(vm: string, rpoMs: number, way: { from?: Site; to?: string } = {}): Promise<ProtectionView> {
    const request = { vm, site: way.to ?? 'east', rpo_ms: rpoMs };
    return eventually(`protect ${vm}`, async () => {
      try {
        return await this.api<ProtectionView>(way.from ?? this.west, 'POST', '/protections', request);
      } catch (error) {
        // The agent may not have reported a VM that was made this moment.
        if (error instanceof Failure && error.code === 'not_found') return undefined;
        throw error;
      }
    });
  }

  /** Ends the protection and removes the replica; resolves when it is gone. */
  async unprotect(protection: ProtectionView): Promise<void> {
    await this.api(this.west, 'DELETE', `/protections/${protection.id}?delete_replica=true`);
    await eventually(`unprotect ${protection.vm_name}`, async () => {
      const found = await this.replica(protection.vm_name);
      return found === undefined ? true : undefined;
    });
  }

  async replica(vm: string, at: Site = this.east): Promise<ReplicaView | undefined> {
    const { items } = await this.api<{ items: ReplicaView[] }>(at, 'GET', '/replicas');
    return items.find((replica) => replica.vm_name === vm);
  }

  /** Newest first, as far as the manager's first page goes. */
  async points(replicaId: string, at: Site = this.east): Promise<PointView[]> {
    const path = `/points?replica=${replicaId}&limit=1000`;
    const { items } = await this.api<{ items: PointView[] }>(at, 'GET', path);
    return items.toSorted((a, b) => b.sequence - a.sequence);
  }

  /** The newest point, once there is one above `after`. */
  async pointAfter(vm: string, after: number, at: Site = this.east): Promise<PointView> {
    return eventually(
      `a point of ${vm} after ${after}`,
      async () => {
        const replica = await this.replica(vm, at);
        if (replica === undefined) return undefined;
        const [newest] = await this.points(replica.id, at);
        return newest !== undefined && newest.sequence > after ? newest : undefined;
      },
      POINT_POLL_MS,
    );
  }
}

/** Asks until there is an answer. */
export async function eventually<T>(
  what: string,
  ask: () => Promise<T | undefined>,
  pollMs = POLL_MS,
): Promise<T> {
  const end = systemClock.monotonicMs() + PATIENCE_MS;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (systemClock.monotonicMs() > end) throw new Failure('timeout', `wait for: ${what}`);
    await systemClock.sleep(pollMs);
  }
}

/** CPU time that a process and its threads have used, in milliseconds; the kernel counts in ticks of 10 ms. */
export function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** Bytes that a site has sent to the other so far, with all headers down to Ethernet's. */
export async function wanBytesSent(lab: TwoSites, from: 'west' | 'east' = 'west'): Promise<number> {
  const [site, link] = from === 'west' ? [lab.west, 'wan-east'] : [lab.east, 'wan-west'];
  const { stdout } = await site.exec(['cat', `/sys/class/net/${link}/statistics/tx_bytes`]);
  return Number(stdout);
}
