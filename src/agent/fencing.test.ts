/**
 * A host is held to I5, in a real libvirt with a real hook: copies that yield, that are released, and an agent that
 * dies before each step of it.
 */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { EventBuffer } from '#/control/event-buffer.ts';
import type { ClaimOrder, TrustedSite } from '#/control/orders.ts';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';
import { silentLog } from '#/lib/log.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { CertificateAuthority } from '#/manager/certificate-authority.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { FenceStore } from './fence-store.ts';
import { Fencing } from './fencing.ts';
import { HookKeeper } from './hook-keeper.ts';
import { installHook, isHookAtWork } from './start-hook.ts';
import { readMark, type YieldPolicy } from './yield-copy.ts';

const UUID = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001';
const WEST = 'site-west';
const EAST = 'site-east';
const WAIT_MS = 20_000;

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let keys: string;
const authorities = new Map<string, CertificateAuthority>();
let trust: TrustedSite[];
/** Each test has records of its own. */
let round = 0;
const hookDirectory = (): string => join(daemon.directory, '../etc/hooks');
const fenceName = (): string => `fence-${round}`;
const hook = () => ({
  hookDirectory: hookDirectory(),
  fenceDirectory: join(daemon.directory, fenceName()),
  siteId: WEST,
  siteName: 'west',
});

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  keys = await mkdtemp(join(tmpdir(), 'antipode-fencing-'));
  trust = [];
  for (const siteId of [WEST, EAST]) {
    await mkdir(join(keys, siteId));
    const authority = await CertificateAuthority.open(join(keys, siteId), siteId, clock);
    authorities.set(siteId, authority);
    trust.push({ site_id: siteId, site_name: siteId.slice(5), ca_pem: authority.caPem });
  }
  await installHook(hook());
  const pid = await daemon.run('cat', ['/run/libvirtd.pid']);
  await daemon.run('kill', ['-HUP', pid.trim()]);
});
afterEach(async () => {
  for (const domain of await libvirt.listDomains()) {
    if (domain.ref.id > 0) await domain.destroy();
    await domain.undefine();
  }
  round++;
});
after(async () => {
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await rm(keys, { recursive: true, force: true });
});

async function order(epoch: number, siteId: string, isHere = false): Promise<ClaimOrder> {
  const claim = { vm_uuid: UUID, epoch, site_id: siteId, issued_ms: 1_795_377_600_000 };
  return { claim: await authorities.get(siteId)!.sign(claim), vm_name: 'ledger', is_here: isHere };
}

class Host implements AsyncDisposable {
  readonly events = new EventBuffer(clock, systemRandom);
  readonly store = new FenceStore(new NodeFileSystem(daemon.directory), fenceName());
  readonly fencing: Fencing;
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;

  constructor(options: { policy?: YieldPolicy; connection?: Libvirt; siteTrust?: TrustedSite[] } = {}) {
    const { policy = 'pause', connection = libvirt, siteTrust = trust } = options;
    const { store, events } = this;
    const reload = (): Promise<boolean> => Promise.resolve(false);
    this.fencing = new Fencing({
      siteId: WEST,
      libvirt: { ready: () => Promise.resolve(connection) },
      store,
      hooks: new HookKeeper({ hook: hook(), store, reload, clock, log: silentLog }),
      policy,
      trust: () => siteTrust,
      clock,
      log: silentLog,
      events,
      changed: () => undefined,
    });
  }

  async start(): Promise<this> {
    await this.fencing.load();
    this.#running = this.fencing.run(this.#stop.signal);
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new Failure('cancelled', 'the test ends'));
    await this.#running;
  }
}

async function running(): Promise<Domain> {
  await installHook(hook());
  const defined = await libvirt.defineDomain(VM);
  const domain = await defined.start();
  await domain.setAutostart(true);
  return domain;
}

const VM = `<domain type="qemu"><name>ledger</name><uuid>${UUID}</uuid>
  <metadata><owner:note xmlns:owner="urn:owner">kept</owner:note></metadata>
  <memory unit="MiB">16</memory><os><type>hvm</type></os></domain>`;

async function until(what: string, isSo: () => Promise<boolean> | boolean): Promise<void> {
  const end = clock.monotonicMs() + WAIT_MS;
  while (!(await isSo())) {
    assert(clock.monotonicMs() < end, `it never came to be that ${what}`);
    await clock.sleep(10);
  }
}

async function stateOf(domain: Domain): Promise<string> {
  return (await domain.getState()).state;
}

const isYielded = (host: Host) => (): boolean => host.fencing.reports()[0]?.state === 'yielded';

test('a running copy is paused by the claim of another site, is refused to start, and is told of exactly', async () => {
  const domain = await running();
  await using host = await new Host().start();
  await host.fencing.take({ claims: [await order(2, EAST)] });
  await until('it yields', isYielded(host));
  assert.deepEqual(await domain.getState().then(({ state, reason }) => [state, reason]), ['paused', 'user']);
  assert.equal(await domain.isAutostart(), false);
  const xml = await domain.getXml(['inactive']);
  assert.match(xml, /<owner:note xmlns:owner="urn:owner">kept/);
  const { yielded } = await readMark(domain);
  assert.deepEqual([yielded?.epoch, yielded?.siteId, yielded?.wasPaused], [2, EAST, true]);
  assert.equal(yielded?.hadAutostart, true);
  const [event, ...rest] = host.events.pending();
  assert.deepEqual(rest, []);
  assert.equal(event?.kind, 'fence.yielded');
  assert.match(
    event.message,
    /site east has run it since 2026-11-22T20:00:00.000Z with epoch 2.*it was paused/,
  );
  const [report] = host.fencing.reports();
  assert.deepEqual([report?.vm_state, report?.epoch, report?.yielded_ms], ['paused', 2, yielded?.atMs]);
  // Ended by a person, it does not come back: neither by hand nor with a daemon that starts.
  await domain.destroy();
  await assert.rejects(
    domain.start(),
    /Antipode refuses to start VM ledger: it runs at site east since epoch 2.*epoch 0/s,
  );
});

test('a copy that somebody resumes is paused again, and one that was off stays off', async () => {
  const domain = await running();
  await domain.destroy();
  await using host = await new Host().start();
  await host.fencing.take({ claims: [await order(2, EAST)] });
  await until('it yields', isYielded(host));
  assert.equal(await stateOf(domain), 'shutoff');
  assert.match(host.events.pending()[0]?.message ?? '', /autostart was turned off/);
  // The owner sets our hook aside and starts it.
  await rm(join(hookDirectory(), 'qemu.d'), { recursive: true });
  const again = await domain.start();
  const event = { kind: 'lifecycle', domain: again.ref, change: 'started', reason: 'booted' } as const;
  host.fencing.happened(event);
  await until('it is paused', async () => (await stateOf(again)) === 'paused');
  await again.resume();
  host.fencing.happened({ ...event, change: 'resumed', reason: 'unpaused' });
  await until('it is paused again', async () => (await stateOf(again)) === 'paused');
});

test('where the owner says so, a copy that yields is ended', async () => {
  const domain = await running();
  await using host = await new Host({ policy: 'destroy' }).start();
  await host.fencing.take({ claims: [await order(2, EAST)] });
  await until('it yields', isYielded(host));
  assert.equal(await stateOf(domain), 'shutoff');
});

test('a copy that is released goes on where it was paused, and starts again', async () => {
  const domain = await running();
  await using host = await new Host().start();
  await host.fencing.take({ claims: [await order(1, WEST, true)] });
  await until('it is marked', async () => (await readMark(domain)).claim?.epoch === 1);
  await host.fencing.take({ claims: [await order(2, EAST)] });
  await until('it yields', isYielded(host));
  assert.equal((await readMark(domain)).claim?.epoch, 1, 'what it was stays in its definition');
  // Another site takes it over from the one that had: what was before both is still known.
  await host.fencing.take({ claims: [await order(3, EAST)] });
  await until('it yields to that one', async () => (await readMark(domain)).yielded?.epoch === 3);
  await host.fencing.take({ claims: [await order(4, WEST, true)] });
  await until('it runs', async () => (await stateOf(domain)) === 'running');
  await until('it is marked', async () => (await readMark(domain)).claim?.epoch === 4);
  assert.equal((await readMark(domain)).yielded, undefined);
  assert.equal(await domain.isAutostart(), true, 'it starts by itself as it did');
  await until('it is told', () => host.events.pending().some(({ kind }) => kind === 'fence.released'));
  assert.deepEqual(host.fencing.reports(), []);
  await domain.destroy();
  const again = await domain.start();
  assert.equal(await stateOf(again), 'running');
});

test('when the VM comes back to another host of this site, the copy that has yielded stays so', async () => {
  const domain = await running();
  await using host = await new Host().start();
  await host.fencing.take({ claims: [await order(2, EAST)] });
  await until('it yields', isYielded(host));
  await host.fencing.take({ claims: [await order(3, WEST)] });
  await until('it yields to that', () => host.fencing.reports()[0]?.epoch === 3);
  assert.equal(await stateOf(domain), 'paused');
  await domain.destroy();
  await assert.rejects(domain.start(), /this definition is of epoch 0/);
});

test('what no trusted site has signed is not believed, and an older claim changes nothing', async () => {
  const domain = await running();
  await using host = await new Host().start();
  const good = await order(2, EAST);
  const forged: EpochClaim[] = [
    { ...good.claim, epoch: 3 },
    { ...good.claim, site_id: 'site-north' },
    { ...good.claim, vm_uuid: UUID.replace('1001', '1002') },
  ];
  await host.fencing.take({ claims: forged.map((claim) => ({ ...good, claim })) });
  assert.deepEqual(host.store.records(), []);
  await host.fencing.take({ claims: [await order(3, WEST, true)] });
  await host.fencing.take({ claims: [good] });
  assert.equal(host.store.get(UUID)?.claim.epoch, 3);
  assert.equal(await stateOf(domain), 'running');
});

test('a damaged record keeps its VM from starting, is told of, and is replaced by the next orders', async () => {
  const domain = await running();
  await domain.destroy();
  await mkdir(join(daemon.directory, fenceName()), { recursive: true });
  await writeFile(join(daemon.directory, fenceName(), UUID), 'antipode-fence 1\nvm');
  await using host = await new Host().start();
  assert.deepEqual(
    host.events.pending().map(({ kind, severity }) => [kind, severity]),
    [['fence.unreadable', 'error']],
  );
  await assert.rejects(domain.start(), /is damaged/);
  await host.fencing.take({ claims: [await order(1, WEST, true)] });
  await domain.start();
});

test('an agent that dies before any step of yielding or of a release comes to the same end when it starts again', async () => {
  for (const goal of ['yielded', 'released'] as const) {
    let steps = 0;
    for (let survives = 0; ; survives++) {
      await using attempt = await prepared(goal);
      const { domain } = attempt;
      const mortal = new Mortal(survives);
      const claims = [goal === 'yielded' ? await order(2, EAST) : await order(3, WEST, true)];
      {
        const before = new Host({ connection: mortal.libvirt });
        await before.fencing.load();
        await before.fencing.take({ claims });
        await mortal.lastWords(before.fencing);
      }
      // Nothing is done by a claim that is not on disk.
      const onDisk = await new Host().start();
      await using host = onDisk;
      assert.equal(host.store.get(UUID)?.claim.epoch, claims[0]!.claim.epoch);
      if (goal === 'released') await host.fencing.take({ claims });
      const where = `${goal}, dead after ${survives} steps`;
      await until(`it ends well: ${where}`, async () => {
        const { yielded, claim } = await readMark(domain);
        const state = await stateOf(domain);
        if (goal === 'released') {
          const isRunning = state === 'running' && (await domain.isAutostart());
          return isRunning && yielded === undefined && claim?.epoch === 3;
        }
        return state === 'paused' && yielded?.wasPaused === true && !(await domain.isAutostart());
      });
      steps = survives;
      if (!mortal.isDead) break;
    }
    assert(steps >= (goal === 'yielded' ? 3 : 2), `${goal} has ${steps} steps`);
  }
});

/** A VM to begin with: running, or one that has yielded. */
async function prepared(goal: 'yielded' | 'released') {
  round++;
  const domain = await running();
  if (goal === 'released') {
    await using host = await new Host().start();
    await host.fencing.take({ claims: [await order(2, EAST)] });
    await until('it yields', isYielded(host));
  }
  return {
    domain,
    async [Symbol.asyncDispose]() {
      await domain.destroy();
      await domain.undefine();
    },
  };
}

const CHANGING: readonly (string | symbol)[] = [
  'setMetadata',
  'suspend',
  'resume',
  'destroy',
  'setAutostart',
];

/** A connection whose owner dies before the call that changes something once `survives` of them are done. */
class Mortal {
  isDead = false;
  #left: number;
  readonly libvirt: Libvirt;
  readonly #died = Promise.withResolvers<void>();

  constructor(survives: number) {
    this.#left = survives;
    this.libvirt = this.#wrap(libvirt);
  }

  /** Runs it until it is dead, or has nothing more to do. */
  async lastWords(fencing: Fencing): Promise<void> {
    const stop = new AbortController();
    const run = fencing.run(stop.signal).catch(() => undefined);
    const settled = until('it has come to its end', async () => {
      const [domain] = await libvirt.listDomains();
      const { yielded } = await readMark(domain!);
      return this.isDead || (yielded === undefined ? await isReleased(domain!) : isDone(fencing));
    });
    await Promise.race([this.#died.promise, settled]);
    stop.abort(new Failure('cancelled', 'it is dead'));
    await Promise.race([run, this.#died.promise]);
    await settled;
  }

  #wrap<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return async (...args: unknown[]): Promise<unknown> => {
          if (CHANGING.includes(name) && this.#left-- <= 0) {
            this.isDead = true;
            this.#died.resolve();
            return await new Promise(() => undefined);
          }
          const result: unknown = await (value as (...all: unknown[]) => unknown).apply(target, args);
          return name === 'listDomains' ? (result as Domain[]).map((domain) => this.#wrap(domain)) : result;
        };
      },
    });
  }
}

const isDone = (fencing: Fencing): boolean => fencing.reports()[0]?.state === 'yielded';
const isReleased = async (domain: Domain): Promise<boolean> =>
  (await readMark(domain)).claim?.epoch === 3 && (await stateOf(domain)) === 'running';

test('the hook of the host is at work in all this', async () => {
  await installHook(hook());
  const store = new FenceStore(new NodeFileSystem(daemon.directory), fenceName());
  await store.load();
  assert.equal(await isHookAtWork(libvirt, 'qemu', store), true);
});
