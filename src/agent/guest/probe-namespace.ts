/**
 * A place on a test's isolated network to probe its guests from: a network namespace with one port at the bridge and
 * an address of the guest's own subnet, gone with the probe. The host itself stays without an address there.
 */
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { Type } from 'typebox';
import { Check } from 'typebox/value';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import {
  attachNamespace,
  ensureNamespace,
  giveAddress,
  inNamespace,
  namespaces,
  removeNamespace,
} from '#/agent/network-namespace.ts';
import type { Reached, Target } from './reach.ts';
import { neighbourOf, type Subnet } from './subnet.ts';

const PREFIX = 'antipode-probe-';
const REACH = join(import.meta.dirname, 'reach-main.ts');
const Answer = Type.Object({ isWell: Type.Boolean(), said: Type.String() });

export class ProbeNamespace implements AsyncDisposable {
  readonly #name: string;
  readonly #device: string;
  readonly #subnets = new Set<string>();
  readonly #own: string[] = [];

  private constructor(name: string, device: string) {
    this.#name = name;
    this.#device = device;
  }

  /** What a crash has left of the same task is made anew. */
  static async open(taskId: string, bridge: string): Promise<ProbeNamespace> {
    const tag = tagOf(taskId, bridge);
    const opened = new ProbeNamespace(`${PREFIX}${tag}`, `app${tag}`);
    inUse.add(opened.#name);
    try {
      await removeNamespace(opened.#name);
      await ensureNamespace(opened.#name);
      await attachNamespace(opened.#name, { bridge, device: opened.#device });
    } catch (error) {
      await opened[Symbol.asyncDispose]();
      throw error;
    }
    return opened;
  }

  /** Tries once. `taken` are addresses that others on the network have. */
  async reach(guest: Subnet, target: Omit<Target, 'address'>, parts: ReachParts): Promise<Reached> {
    const subnet = `${guest.address}/${guest.prefix}`;
    if (!this.#subnets.has(subnet)) {
      const taken = await parts.taken();
      // From here to the reservation nothing else runs: probes at the same time take different addresses.
      const own = neighbourOf(guest, [...taken, ...reserved]);
      if (own === undefined) return { isWell: false, said: `${subnet} has no free address to probe from` };
      reserved.add(own);
      this.#own.push(own);
      await giveAddress(this.#name, this.#device, `${own}/${guest.prefix}`);
      this.#subnets.add(subnet);
    }
    const whole: Target = { ...target, address: guest.address };
    const argv = [process.execPath, '--disable-warning=ExperimentalWarning', REACH, JSON.stringify(whole)];
    try {
      const answer: unknown = JSON.parse(await inNamespace(this.#name, argv, parts.signal));
      if (Check(Answer, answer)) return answer;
    } catch (error) {
      parts.signal.throwIfAborted();
      if (failureIn(error) === undefined) throw error;
      return { isWell: false, said: describe(error) };
    }
    throw new Failure('tool_failed', 'probe from a network namespace: its program answered nothing');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await removeNamespace(this.#name);
    for (const address of this.#own) reserved.delete(address);
    inUse.delete(this.#name);
  }
}

export type ReachParts = { taken: () => Promise<string[]>; signal: AbortSignal };

/** Addresses that probes have; on whichever network, since there are more than enough. */
const reserved = new Set<string>();
/** Those of this process; any others are of one that crashed. */
const inUse = new Set<string>();

export async function removeProbeNamespaces(): Promise<void> {
  for (const name of await namespaces()) {
    if (name.startsWith(PREFIX) && !inUse.has(name)) await removeNamespace(name);
  }
}

function tagOf(taskId: string, bridge: string): string {
  return createHash('sha256').update(`antipode probe ${taskId} ${bridge}`).digest('hex').slice(0, 10);
}
