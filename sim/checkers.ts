/**
 * The checkers of a run (docs/simulation.md): cheap ones after every event; those that open the replica, over a copy
 * of its medium, whenever there is news and at the end.
 *
 * They use nothing of the replica but its public interface, on what a power loss at this instant would leave.
 */
import { describe, failureIn, hasCode } from '#/lib/failure.ts';
import { chance, type Random } from '#/lib/random.ts';
import type { RecoveryPoint, Replica } from '#/replica/replica.ts';
import { aside } from './aside.ts';
import { pick } from './chance.ts';
import { comparePoint } from './compare-point.ts';
import { rot } from './faults.ts';
import type { Machine } from './machine.ts';
import type { Medium } from './medium.ts';
import type { Network } from './network.ts';
import type { PointLedger } from './point-ledger.ts';
import { openStore } from './store.ts';
import type { SimTransport } from './sim-transport.ts';
import type { Violations } from './violations.ts';

/** I6: files a program may have open: two for each disk and delta in use, and a few of its own. */
const OPEN_FILES_MAX = 160;
/** I6: what one end may have given to its transport and not got rid of: the socket's buffer and one piece over it. */
const UNSENT_BYTES_MAX: number = 64 * 1024;
/** Signs of life, credits and a failure go out beside the piece at hand. */
const SMALL_MESSAGES_BYTES = 8 * 1024;
/** Chance that news are checked at once by a power loss that did not happen. */
const CHECK_CHANCE = 0.2;
/** The same before a change of a file: these are many, and most of them are alike. */
const CAPTURE_CHANCE = 0.02;
const LOG_CAPTURE_CHANCE = 0.3;
/** Points that are compared each time; the newest is one of them. */
const SAMPLE = 2;
const ROT_SAMPLE = 4;

export type CheckedWorld = {
  random: Random;
  network: Network;
  agent: Machine;
  server: Machine;
  ledger: PointLedger;
  violations: Violations;
  window: { segmentCount: number; bytes: number };
};

export class Checkers {
  readonly #world: CheckedWorld;
  /** What a power loss in the last event would have left. */
  #captured: Medium | undefined;
  /** For the report: how much was checked. */
  readonly counts = { powerLosses: 0, points: 0, rotten: 0 };

  constructor(world: CheckedWorld) {
    this.#world = world;
  }

  /** I6, after every event. */
  afterEvent(): void {
    const { network, agent, server, violations } = this.#world;
    for (const { agentEnd, serverEnd } of network.connections) {
      this.#checkUnsent('agent', agentEnd);
      this.#checkUnsent('server', serverEnd);
    }
    for (const [name, machine] of [
      ['agent', agent],
      ['server', server],
    ] as const) {
      const open = machine.life?.fileSystem.gauges.openFiles ?? 0;
      if (open > OPEN_FILES_MAX) violations.add('I6', `the ${name} has ${open} files open`);
    }
  }

  #checkUnsent(name: string, { gauges }: SimTransport): void {
    const bound = UNSENT_BYTES_MAX + gauges.pieceBytesMax + SMALL_MESSAGES_BYTES;
    if (gauges.unsentBytesMax <= bound) return;
    this.#world.violations.add(
      'I6',
      `the ${name} has ${gauges.unsentBytesMax} bytes unsent, ${bound} allowed`,
    );
  }

  /** The server is about to change a file: now and then this is where it would lose power. */
  beforeChange(what: string): void {
    const { ledger, random } = this.#world;
    const likely = what.startsWith('datasync points.log') ? LOG_CAPTURE_CHANCE : CAPTURE_CHANCE;
    if (this.#captured || ledger.points.size === 0 || !chance(random, likely)) return;
    this.#capture();
  }

  /** I1 and I2: what if the server lost power when there was news, or before it changed a file? */
  async betweenEvents(): Promise<void> {
    const { ledger, random } = this.#world;
    const { news } = ledger;
    ledger.news = 'none';
    const isDue = news === 'rare' || (news === 'likely' && chance(random, CHECK_CHANCE));
    if (isDue && !this.#captured) this.#capture();
    const medium = this.#captured;
    this.#captured = undefined;
    if (medium) await this.#checkStore(medium, SAMPLE);
  }

  #capture(): void {
    this.#captured = this.#world.server.medium.clone();
    this.#captured.crash(this.#world.random);
    this.counts.powerLosses++;
  }

  /** I1 and I2 in full, and that the store finds itself whole. */
  async atTheEnd(): Promise<void> {
    const { server, random } = this.#world;
    await this.#checkStore(server.medium.clone(), Number.POSITIVE_INFINITY);
    const medium = server.medium.clone();
    medium.crash(random);
    await this.#checkStore(medium, SAMPLE);
    for (let i = 0; i < 2; i++) await this.#checkRot(server.medium.clone());
  }

  async #checkStore(medium: Medium, pointsMax: number): Promise<void> {
    const { ledger, violations, random } = this.#world;
    if (ledger.points.size === 0) return;
    try {
      await aside(medium, async (ports) => {
        await using replica = await openStore(ports);
        ledger.checkEpoch(replica.epoch());
        for (const what of ledger.missing(replica.points()))
          violations.add('I2', `after a power loss ${what}`);
        for (const point of sample(replica.points(), pointsMax, random))
          await this.#checkPoint(replica, point);
        if (pointsMax === Number.POSITIVE_INFINITY) await this.#verify(replica);
      });
    } catch (error) {
      if (!failureIn(error)) throw error;
      violations.add('I2', `after a power loss the replica does not open: ${describe(error)}`);
    }
  }

  async #checkPoint(replica: Replica, point: RecoveryPoint): Promise<void> {
    const { ledger, violations, random } = this.#world;
    this.counts.points++;
    try {
      await using view = await replica.openView(point.sequence);
      const wrong = await comparePoint(view, ledger, { random });
      if (wrong !== undefined) violations.add('I1', wrong);
    } catch (error) {
      if (!failureIn(error)) throw error;
      violations.add('I1', `point ${point.sequence} is offered and cannot be read: ${describe(error)}`);
    }
  }

  async #verify(replica: Replica): Promise<void> {
    const { problems } = await replica.verify();
    for (const { where, what } of problems) this.#world.violations.add('I1', `verify: ${where}: ${what}`);
  }

  /**
   * One bit turned around at rest: whatever of it a reader can see, as an error or as a wrong byte, `verify` reports.
   * Data in deltas is checked whenever it is read; the base is raw, and what it gives is proven by `verify` alone.
   */
  async #checkRot(medium: Medium): Promise<void> {
    const { violations, random } = this.#world;
    const path = rot({ medium }, random);
    if (path === undefined) return;
    this.counts.rotten++;
    try {
      await aside(medium, async (ports) => {
        await using replica = await openStore(ports);
        const seen = await this.#seenRot(replica, path);
        if (seen === undefined) return;
        const { problems } = await replica.verify();
        if (problems.length === 0)
          violations.add('I1', `verify does not report the bit turned in ${path}: ${seen}`);
      });
    } catch (error) {
      if (!hasCode(error, 'storage_corrupt')) throw error;
    }
  }

  async #seenRot(replica: Replica, path: string): Promise<string | undefined> {
    const { ledger, violations, random } = this.#world;
    let seen: string | undefined;
    for (const point of sample(replica.points(), ROT_SAMPLE, random)) {
      try {
        await using view = await replica.openView(point.sequence);
        const wrong = await comparePoint(view, ledger, { random });
        if (wrong === undefined) continue;
        if (!path.endsWith('/base')) violations.add('I1', `a bit turned in ${path} is served: ${wrong}`);
        seen = wrong;
      } catch (error) {
        if (!hasCode(error, 'storage_corrupt')) throw error;
        seen = describe(error);
      }
    }
    return seen;
  }
}

/** The newest, and others by chance. */
function sample(points: readonly RecoveryPoint[], max: number, random: Random): RecoveryPoint[] {
  if (points.length <= max) return [...points];
  const chosen = new Set([points.at(-1)!]);
  while (chosen.size < max) chosen.add(pick(random, points));
  return [...chosen];
}
