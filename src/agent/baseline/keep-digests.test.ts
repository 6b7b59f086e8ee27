/** The digests of a served point are kept whole and proven, or not at all; no VM is needed for it. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { createOverlay } from '#/agent/qcow2-overlay.ts';
import { newBaselines, ServedPoint } from '#/agent/recovery-fixture.ts';
import type { RecoveryState } from '#/agent/recovery-state.ts';
import { StepLog } from '#/agent/step-log.ts';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { SeededRandom } from '#/lib/random.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { definition } from '#test/echo-guest.ts';
import type { Baselines } from './baselines.ts';
import { keepDigests } from './keep-digests.ts';

const UUID = '6f0c8f0e-6a77-4a52-9f3e-0d5b6a0c1d2e';
const TRACKING = `from-replica-1-${'ab'.repeat(16)}`;
const DISK_BYTES = 70 * 2 ** 20 + 512;
const forever = new AbortController().signal;
const directories: string[] = [];
after(async () => {
  for (const path of directories) await rm(path, { recursive: true, force: true });
});

const noLibvirt = (): never => assert.fail('libvirt is not asked');

class Host implements AsyncDisposable {
  readonly directory: string;
  readonly point: ServedPoint;
  readonly disks: Record<string, Uint8Array>;
  readonly waited: number[] = [];
  /** Waiting takes no time, and what a test does meanwhile. */
  meanwhile: () => Promise<void> = async () => {};
  readonly clock = {
    now: () => systemClock.now(),
    monotonicMs: () => systemClock.monotonicMs(),
    sleep: async (ms: number) => {
      this.waited.push(ms);
      await this.meanwhile();
    },
  };

  static async make(): Promise<Host> {
    const directory = await mkdtemp(join(tmpdir(), 'antipode-digests-'));
    directories.push(directory);
    const host = new Host(directory);
    for (const key of ['vda', 'vdb']) {
      await createOverlay(host.image(key), DISK_BYTES, { name: '/nowhere', format: 'raw' });
    }
    await host.point.serveDigests(DIGEST_KEY);
    return host;
  }

  private constructor(directory: string) {
    this.directory = directory;
    const vda = new Uint8Array(DISK_BYTES);
    // The ends of what is copied together, and of the disk.
    for (const at of [0, 64 * 2 ** 20 - 4096, 64 * 2 ** 20, DISK_BYTES - 512]) {
      vda.set(new SeededRandom(at + 1).bytes(512), at);
    }
    this.disks = { vda, vdb: new Uint8Array(DISK_BYTES) };
    this.point = new ServedPoint(directory, this.disks);
  }

  get saidPath(): string {
    return join(this.point.attachmentsPath, 'digests.json');
  }

  image(key: string): string {
    return join(this.directory, `${key}.qcow2`);
  }

  /** As an agent that has just started does. */
  baselines(): Baselines {
    return newBaselines(this.directory, noLibvirt);
  }

  async keep(signal = forever): Promise<string | undefined> {
    const steps = new StepLog(systemClock, () => undefined);
    const text = definition('web', (key) => this.image(key));
    const xml = text.replace('<memory', `<uuid>${UUID}</uuid><memory`);
    const domain = { getXml: async () => xml } as unknown as Domain;
    const state = { tracking: TRACKING, uuid: UUID } as RecoveryState;
    let said: string | undefined;
    const note = (text: string | null): void => void (said = text ?? undefined);
    const context = { baselines: this.baselines(), steps, clock: this.clock };
    const parts = { task: this.point.task({ id: 'r1' }), context, state, note };
    await keepDigests(domain, parts, signal);
    return said;
  }

  async assertKept(): Promise<void> {
    assert.equal(await this.baselines().tracking(UUID), TRACKING);
    const store = this.baselines().of(UUID);
    assert.equal(await store.digestKey(), DIGEST_KEY);
    await using record = (await store.open())!;
    for (const [key, bytes] of Object.entries(this.disks)) {
      const kept = await record.digests(key).nodes(0, 0, Math.ceil(DISK_BYTES / 4096));
      assert(Buffer.compare(kept, digestBlocks(DIGEST_KEY, bytes)) === 0, key);
    }
    assert.equal(record.state.head?.stamp, '7'.repeat(32));
    assert.match(record.state.disks[0]!.imageId, /vda.qcow2 \d+:\d+/);
  }

  async assertNothing(what: string): Promise<void> {
    assert.equal(await this.baselines().tracking(UUID), undefined, what);
    assert.equal(await this.baselines().of(UUID).open(), undefined, what);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.point.kill();
  }
}

test('the digests of all disks are kept, and known to an agent that starts again', async () => {
  await using host = await Host.make();
  assert.equal(await host.keep(), undefined);
  await host.assertKept();
  // Done once, it is not done again, also when the point is not served any more.
  await host.point.kill();
  assert.equal(await host.keep(), undefined);
  await host.assertKept();
});

test('what is said of the digests is believed whole or not at all', async () => {
  await using host = await Host.make();
  const said = await readFile(host.saidPath, 'utf8');
  const bad = [
    ...Array.from({ length: said.length }, (_, length) => said.slice(0, length)).filter(
      (_, at) => at % 7 === 0,
    ),
    said.replace('"sequence":7', '"sequence":8'),
    said.replace(/"root":"(.)/, (_, digit: string) => `"root":"${digit === '0' ? '1' : '0'}`),
    said.replace('{', '{"more":1,'),
    said.replace(/dig\.sock/, 'gone.sock'),
    said.replace('"key":"vdb"', '"key":"../vdb"'),
    said.replace(String(DISK_BYTES), String(4 * DISK_BYTES)),
    said.replace(String(DISK_BYTES), '9007199254740993'),
    `${said}${' '.repeat(300_000)}`,
    '[]',
  ];
  for (const text of bad) {
    await writeFile(host.saidPath, text);
    const note = await host.keep();
    assert.match(note ?? '', /The way back will read all disks here/, text.slice(0, 300));
    await host.assertNothing(text.slice(0, 300));
  }
  await rm(host.saidPath);
  assert.match((await host.keep()) ?? '', /digests\.json/);
  await writeFile(host.saidPath, said);
  assert.equal(await host.keep(), undefined);
  await host.assertKept();
});

test('a replication server that is being started again is waited for', async () => {
  await using host = await Host.make();
  await host.point.kill();
  host.meanwhile = async () => {
    if (host.waited.length === 3) await host.point.serveDigests(DIGEST_KEY);
  };
  assert.equal(await host.keep(), undefined);
  assert.equal(host.waited.length, 3);
  await host.assertKept();
});

test('a copy that is cut is no baseline, and is made anew', async () => {
  await using host = await Host.make();
  const baselines = host.baselines();
  const digests = JSON.parse(await readFile(host.saidPath, 'utf8')) as Parameters<
    Baselines['keep']
  >[0]['digests'];
  const imageIds = new Map([
    ['vda', 'a'],
    ['vdb', 'b'],
  ]);
  for (let cut = 1; cut <= 4; cut++) {
    const stop = new AbortController();
    let told = 0;
    const onProgress = (): void => {
      if (++told === cut) stop.abort(new Error('cut'));
    };
    const point = { vmUuid: UUID, digests, tracking: TRACKING, imageIds };
    await assert.rejects(baselines.keep(point, onProgress, stop.signal), /cut/);
    await host.assertNothing(`cut at ${cut}`);
  }
  assert.equal(await host.keep(), undefined);
  await host.assertKept();
});
