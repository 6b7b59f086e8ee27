/**
 * Random partitions and returns, and how often two copies of a VM ran that could have known of each other: links cut
 * and restored, sites that lose their power and come back, recoveries with and without --force, old copies started and
 * resumed by hand. Same seed, same choices: ANTIPODE_SEED.
 *
 * Managers, their database and wire, the agents' fencing, records and start hook are the real ones; libvirt and QEMU
 * are a model of one VM (model-domain.ts), since a hundred boots of real guests would take an hour. lab/fence.test.ts
 * shows the same on real guests, once each.
 */
import { createServer, connect, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import type { ProtectionView } from '#/api/protections.ts';
import type { RecoveryView } from '#/api/recoveries.ts';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import { pairSites, TestSite } from '#/manager/site-fixture.ts';
import { figure, type Benchmark, type BenchmarkOptions, type Figure } from './figure.ts';
import { ModelDomain } from './model-domain.ts';
import { ModelSite } from './partition-host.ts';

/** The default of three rounds is more than a hundred. */
const PARTITIONS_A_ROUND = 35;
/** From the sites' talking again to the older copy's pause (docs/fencing.md, section 7). */
const GRACE_MS = 10_000;
const LOOK_MS = 10;
const PATIENCE_MS = 60_000;
const TROUBLES = [
  'link cut, recovered',
  'site dead, recovered, back',
  'site dead, recovered, back while cut',
  'site answers, recovered by force',
] as const;
type Trouble = (typeof TROUBLES)[number];
type Tally = { count: number; doubles: number; unknownMs: number; knownMs: number };

export const partitions: Benchmark = {
  about: 'random partitions and returns: copies that ran twice and could have known',
  run: async (options) => {
    const seed = Number(process.env['ANTIPODE_SEED'] ?? Date.now() % 1_000_000);
    options.say(`seed ${seed}; again with ANTIPODE_SEED=${seed}`);
    await using world = await World.start(new SeededRandom(seed));
    const total = options.rounds * PARTITIONS_A_ROUND;
    for (let at = 1; at <= total; at++) await world.partition(`${at} of ${total}`, options);
    for (const line of world.table()) options.say(line);
    return world.figures();
  },
};

class World implements AsyncDisposable {
  readonly #random: SeededRandom;
  readonly #links: Link[];
  readonly #tallies = new Map<Trouble, Tally>();
  readonly #watching = new AbortController();
  readonly #watch: Promise<void>;
  #home: ModelSite;
  #away: ModelSite;
  #isCut = false;
  #talkSince = clock.monotonicMs();
  #double: { sinceMs: number; isCounted: boolean } | undefined;
  #tally: Tally = newTally();
  #knownDoubles = 0;
  #refused = 0;

  private constructor(random: SeededRandom, sites: { home: ModelSite; away: ModelSite }, links: Link[]) {
    this.#random = random;
    this.#home = sites.home;
    this.#away = sites.away;
    this.#links = links;
    this.#watch = this.#look();
  }

  static async start(random: SeededRandom): Promise<World> {
    const [west, east] = [await TestSite.start('west'), await TestSite.start('east')];
    const links = [await Link.to(west), await Link.to(east)];
    await pairSites(east, west);
    const [home, away] = [await ModelSite.join(west), await ModelSite.join(east)];
    home.domain = new ModelDomain();
    home.domain.state = 'running';
    await home.powerOn(true);
    await away.powerOn(true);
    const world = new World(random, { home, away }, links);
    await world.#ask('protect', async () => {
      const request = { vm: 'ledger', site: 'east', rpo_ms: 5000 };
      const { state } = await west.api<ProtectionView>('POST', '/protections', request);
      return state === 'active';
    });
    return world;
  }

  async partition(name: string, options: BenchmarkOptions): Promise<void> {
    const trouble = TROUBLES[integerBelow(this.#random, TROUBLES.length)]!;
    this.#tally = this.#tallies.get(trouble) ?? newTally();
    this.#tallies.set(trouble, this.#tally);
    this.#tally.count++;
    if (integerBelow(this.#random, 3) === 0) await this.#refusedWithoutForce();
    await this.#strike(trouble);
    await this.#recover();
    await this.#meddle();
    await this.#comeBack();
    await this.#settle();
    await this.#meddle();
    await this.#settle();
    await this.#reprotect();
    options.say(`${name}: ${trouble}`);
  }

  /** What runs and answers is not taken away unasked. */
  async #refusedWithoutForce(): Promise<void> {
    try {
      await this.#away.site.api('POST', '/recoveries', { vm: 'ledger' });
    } catch {
      this.#refused++;
      return;
    }
    throw new Error('a VM that runs at a site that answers was recovered without force');
  }

  async #strike(trouble: Trouble): Promise<void> {
    if (trouble === 'link cut, recovered') this.#cut();
    if (trouble.startsWith('site dead')) await this.#home.powerOff();
    if (trouble === 'site dead, recovered, back while cut') this.#cut();
  }

  async #recover(): Promise<void> {
    let id = '';
    await this.#ask('recover', async () => {
      const started = await this.#away.site.api<RecoveryView>('POST', '/recoveries', {
        vm: 'ledger',
        force: true,
      });
      id = started.id;
      return true;
    });
    await this.#ask('the recovery', async () => {
      const { state, failure } = await this.#away.site.api<RecoveryView>('GET', `/recoveries/${id}`);
      if (state === 'failed') throw new Error(failure?.message);
      return state === 'done';
    });
  }

  async #comeBack(): Promise<void> {
    if (!this.#home.isUp) await this.#home.powerOn();
    // A while apart, for what people do meanwhile.
    if (this.#isCut) await clock.sleep(integerBelow(this.#random, 500));
    await this.#meddle();
    if (this.#isCut) this.#restore();
  }

  /** People at the old copy's site try to get it going. */
  async #meddle(): Promise<void> {
    if (!this.#home.isUp || integerBelow(this.#random, 2) === 0) return;
    if (this.#home.domain?.state === 'shutoff') this.#home.start();
    else this.#home.resume();
    await clock.sleep(integerBelow(this.#random, 50));
  }

  /** Until the older copy does not run, and its site has said so. */
  async #settle(): Promise<void> {
    const endMs = clock.monotonicMs() + GRACE_MS + 2000;
    while (this.#home.isRunning && clock.monotonicMs() < endMs) await clock.sleep(LOOK_MS);
    if (!this.#away.isRunning) throw new Error('the VM does not run where it was recovered');
  }

  async #reprotect(): Promise<void> {
    const { site } = this.#away;
    await this.#ask('reprotect', async () => {
      await site.api('POST', '/reprotections', { vm: 'ledger' });
      return true;
    });
    await this.#ask('the protection', async () => {
      const { items } = await site.api<{ items: ProtectionView[] }>('GET', '/protections');
      return items.some(({ state }) => state === 'active');
    });
    [this.#home, this.#away] = [this.#away, this.#home];
    await this.#ask('a point', async () => {
      const path = '/replicas';
      const { items } = await this.#away.site.api<{ items: { point_count: number; state: string }[] }>(
        'GET',
        path,
      );
      return items.some(({ point_count: count, state }) => state === 'active' && count > 0);
    });
  }

  #cut(): void {
    this.#isCut = true;
    for (const link of this.#links) link.cut();
  }

  #restore(): void {
    for (const link of this.#links) link.restore();
    this.#isCut = false;
  }

  /** Sees what runs, all the time. */
  async #look(): Promise<void> {
    const { signal } = this.#watching;
    while (!signal.aborted) {
      const nowMs = clock.monotonicMs();
      const isApart = this.#isCut || !this.#home.isUp || !this.#away.isUp;
      if (isApart) this.#talkSince = nowMs;
      this.#note(this.#home.isRunning && this.#away.isRunning, isApart, nowMs);
      await clock.sleep(LOOK_MS, signal).catch(() => undefined);
    }
  }

  #note(isDouble: boolean, isApart: boolean, nowMs: number): void {
    const tally = this.#tally;
    if (!isDouble) {
      this.#double = undefined;
      return;
    }
    if (this.#double === undefined) {
      tally.doubles++;
      this.#double = { sinceMs: nowMs, isCounted: false };
    }
    const { sinceMs } = this.#double;
    if (isApart) {
      tally.unknownMs = Math.max(tally.unknownMs, nowMs - sinceMs);
      return;
    }
    const knownMs = nowMs - Math.max(sinceMs, this.#talkSince);
    tally.knownMs = Math.max(tally.knownMs, knownMs);
    if (knownMs <= GRACE_MS || this.#double.isCounted) return;
    this.#double.isCounted = true;
    this.#knownDoubles++;
  }

  table(): string[] {
    const row = (cells: string[]): string =>
      cells.map((cell, at) => cell.padEnd(at === 0 ? 40 : 14)).join('');
    const rows = [...this.#tallies].map(([trouble, { count, doubles, unknownMs, knownMs }]) =>
      row([trouble, ...[count, doubles, Math.round(unknownMs), Math.round(knownMs)].map(String)]),
    );
    return [row(['trouble', 'times', 'two copies', 'apart, ms', 'together, ms']), ...rows];
  }

  figures(): Figure[] {
    const all = [...this.#tallies.values()];
    const sum = (of: (tally: Tally) => number): number => all.reduce((total, tally) => total + of(tally), 0);
    const longest = Math.max(0, ...all.map(({ knownMs }) => knownMs));
    return [
      figure('two copies that could have known', this.#knownDoubles, 'times', 0),
      figure(
        'partitions and returns',
        sum(({ count }) => count),
        'times',
      ),
      figure(
        'times that two copies ran',
        sum(({ doubles }) => doubles),
        'times',
      ),
      figure('longest once sites could talk', longest / 1000, 's', GRACE_MS / 1000),
      figure('recoveries refused without force', this.#refused, 'times'),
    ];
  }

  async #ask(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const endMs = clock.monotonicMs() + PATIENCE_MS;
    let last: unknown;
    while (clock.monotonicMs() < endMs) {
      try {
        if (await isSo()) return;
      } catch (error) {
        last = error;
      }
      await clock.sleep(50);
    }
    throw new Error(`not so in time: ${what}`, { cause: last });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watching.abort();
    await this.#watch;
    for (const link of this.#links) await link[Symbol.asyncDispose]();
    await this.#home[Symbol.asyncDispose]();
    await this.#away[Symbol.asyncDispose]();
  }
}

function newTally(): Tally {
  return { count: 0, doubles: 0, unknownMs: 0, knownMs: 0 };
}

/** The way to a manager that the other site knows, which can be cut. */
class Link implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isCut = false;

  private constructor(port: () => number) {
    this.#server = createServer((near) => {
      if (this.#isCut) {
        near.destroy();
        return;
      }
      const far = connect(port(), '127.0.0.1');
      for (const [from, to] of [[near, far] as const, [far, near] as const]) {
        this.#sockets.add(from);
        from.on('error', () => undefined);
        from.on('close', () => {
          this.#sockets.delete(from);
          to.destroy();
        });
        from.pipe(to);
      }
    });
  }

  static async to(site: TestSite): Promise<Link> {
    // A manager that is started again listens on the same port.
    const { port } = site.manager;
    const link = new Link(() => port);
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    const address = link.#server.address();
    if (address !== null && typeof address === 'object') site.manager.peers.listensOn(address.port);
    return link;
  }

  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  restore(): void {
    this.#isCut = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    const closed = once(this.#server, 'close');
    this.#server.close();
    await closed;
  }
}
