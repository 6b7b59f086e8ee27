import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { digestBlocks } from '#/disk/digest.ts';
import { BLOCK_BYTES, blockCount } from '#/disk/disk.ts';
import { describe } from '#/lib/failure.ts';
import { SeededRandom } from '#/lib/random.ts';
import { Medium } from '#sim/medium.ts';
import { CrashFileSystem, type CrashHooks, type Operation } from './crash-file-system-fixture.ts';
import type { Replica, RetentionPolicy } from './replica.ts';
import {
  copyDisks,
  difference,
  fixedClock,
  IDENTITY,
  SourceModel,
  type ModelDisks,
} from './replica-fixture.ts';
import { createReplica, openReplica } from './stored-replica.ts';

const KIB = 1024;
const LIMITS = { reserveBytes: 0, barrierBytes: 96 * KIB, deltaBlocksMax: 40, logBytesMin: 8 * KIB };
const POLICY: RetentionPolicy = { keepAllMs: 22_000, tiers: [{ everyMs: 30_000, forMs: 100_000 }] };

/** What a replica must hold if the power went now. */
type Expectation = {
  /** Points that are offered now. */
  required: number[];
  models: ReadonlyMap<number, ModelDisks>;
  /** The point whose commit is running. */
  coming: { sequence: number; disks: ModelDisks } | undefined;
};

class Workload {
  readonly medium = new Medium();
  readonly model: SourceModel;
  replica: Replica | undefined;
  coming: Expectation['coming'];
  readonly files: CrashFileSystem;

  constructor(seed: number, hooks: CrashHooks) {
    this.model = new SourceModel(new SeededRandom(seed));
    this.files = new CrashFileSystem(this.medium, hooks);
  }

  expectation(): Expectation {
    const required = this.replica?.points().map(({ sequence }) => sequence) ?? [];
    return { required, models: this.model.points, coming: this.coming };
  }

  async run(): Promise<void> {
    const { model } = this;
    model.addDisk('vda', 1280 * KIB + 512);
    model.addDisk('vdb', 64 * KIB);
    model.scribble(25, 6);
    const options = { files: this.files, clock: fixedClock(), directory: 'r', limits: LIMITS };
    this.replica = await createReplica(options, IDENTITY);
    await this.#cutFirstCopy();
    await sendDifferences(this.replica, model, (coming) => (this.coming = coming));
    this.coming = undefined;
    for (let i = 2; i <= 24; i++) {
      if (i === 6) model.addDisk('vdc', 100 * KIB);
      if (i === 9) model.resize('vda', 1500 * KIB);
      if (i === 12) model.disks.delete('vdb');
      if (i === 14) model.addDisk('vdb', 32 * KIB);
      if (i === 16) model.resize('vda', 1100 * KIB);
      if (i === 19) model.resize('vda', 1400 * KIB + 512);
      model.scribble(i % 5 === 0 ? 0 : 4 + (i % 4), i % 7 === 0 ? 60 : 5);
      this.coming = { sequence: i, disks: copyDisks(model.disks) };
      await model.send(this.replica);
      this.coming = undefined;
      const nowMs = this.replica.head()!.momentMs;
      if (i % 3 === 0) for (let steps = 0; steps < 4; steps++) await this.replica.compact(POLICY, nowMs);
    }
  }

  /** A first try that ends in the middle; then the source goes on changing. */
  async #cutFirstCopy(): Promise<void> {
    const writer = await this.replica!.begin(this.model.intent());
    const segments = this.model.segments(new Map());
    for (const segment of segments.slice(0, -1)) await writer.write(segment);
    await writer.suspend();
    this.model.scribble(12, 6);
  }
}

/** Sends a point as an agent does that compares: what the replica's own digests say is there decides. */
async function sendDifferences(
  replica: Replica,
  model: SourceModel,
  announce: (coming: Expectation['coming']) => void = () => undefined,
): Promise<void> {
  const { disks } = await replica.state();
  const held: ModelDisks = new Map();
  for (const [index, { key, bytes }] of disks.entries()) {
    const content = model.disks.get(key);
    if (content === undefined) continue;
    const digests = await replica.digests(index, 0, 0, blockCount(bytes));
    held.set(key, asHeld(content, digests, bytes));
  }
  announce({ sequence: (replica.head()?.sequence ?? 0) + 1, disks: copyDisks(model.disks) });
  const head = replica.head();
  const intent = { ...model.intent(), sequence: (head?.sequence ?? 0) + 1 };
  if (head === undefined) delete intent.base;
  else intent.base = { sequence: head.sequence, stamp: head.stamp };
  const writer = await replica.begin(intent);
  const segments = model.segments(held);
  for (const segment of segments) await writer.write(segment);
  await writer.commit(model.request(segments.length));
  model.acknowledged(intent);
}

/** Content that equals the source's where the digests do, and differs elsewhere. */
function asHeld(content: Uint8Array, digests: Uint8Array, bytes: number): Uint8Array {
  const held = new Uint8Array(bytes);
  const own = digestBlocks(DIGEST_KEY, content);
  for (let block = 0; block < blockCount(bytes); block++) {
    const from = block * BLOCK_BYTES;
    const digest = digests.subarray(block * 16, block * 16 + 16);
    const isSame = Buffer.compare(digest, own.subarray(block * 16, block * 16 + 16)) === 0;
    if (isSame) held.set(content.subarray(from, Math.min(from + BLOCK_BYTES, bytes)), from);
    else if (digest.some((byte) => byte !== 0)) held.fill(0xee, from, Math.min(from + BLOCK_BYTES, bytes));
  }
  return held;
}

/** Opens what a power loss left, and says what is wrong with it. */
async function inspect(medium: Medium, expectation: Expectation, isThorough: boolean): Promise<void> {
  const options = { files: new CrashFileSystem(medium), clock: fixedClock(), directory: 'r', limits: LIMITS };
  await using replica = await openReplica(options);
  const sequences = replica.points().map(({ sequence }) => sequence);
  for (const sequence of expectation.required)
    assert.ok(sequences.includes(sequence), `point ${sequence} is lost`);
  await comparePoints(replica, expectation, isThorough ? sequences : sequences.slice(-2));
  if (!isThorough) return;
  const nowMs = replica.head()?.momentMs ?? 0;
  while (await replica.compact(POLICY, nowMs + 1));
  assert.deepEqual((await replica.verify()).problems, []);
  const models = new Map(expectation.models);
  if (expectation.coming !== undefined) models.set(expectation.coming.sequence, expectation.coming.disks);
  await sendNext(replica, models, expectation);
}

async function comparePoints(replica: Replica, expectation: Expectation, sequences: number[]): Promise<void> {
  for (const sequence of sequences) {
    const { coming } = expectation;
    const model =
      expectation.models.get(sequence) ?? (coming?.sequence === sequence ? coming.disks : undefined);
    assert.ok(model, `point ${sequence} was never committed`);
    await using view = await replica.openView(sequence);
    assert.equal(await difference(view, model), undefined, `point ${sequence}`);
  }
}

/** After a crash replication goes on: the next point is made by comparing, and is what the source is. */
async function sendNext(
  replica: Replica,
  models: ReadonlyMap<number, ModelDisks>,
  { coming }: Expectation,
): Promise<void> {
  const next = new SourceModel(new SeededRandom(99));
  const head = replica.head();
  const from = (head && models.get(head.sequence)) ?? coming?.disks ?? new Map<string, Uint8Array>();
  for (const [key, content] of from) next.disks.set(key, content.slice());
  if (next.disks.size === 0) next.addDisk('vda', 300 * KIB);
  next.scribble(6);
  await sendDifferences(replica, next);
  await using view = await replica.openView(replica.head()!.sequence);
  assert.equal(await difference(view, next.disks), undefined, 'the point after the crash');
}

type SweepOptions = {
  seed: number;
  forgets?: CrashHooks['forgets'];
  /** Looks at every n-th operation, and at none after the first `operationsMax`. */
  every: number;
  operationsMax?: number;
  thoroughEvery: number;
};

/** Runs the workload once and looks at what a power loss before every n-th operation leaves. Returns how many. */
async function sweep({
  seed,
  forgets,
  every,
  operationsMax = Infinity,
  thoroughEvery,
}: SweepOptions): Promise<number> {
  const random = new SeededRandom(seed ^ 0x5eed);
  let count = 0;
  let crashes = 0;
  let isCreated = false;
  let found: Error | undefined;
  const before = async (operation: Operation, path: string): Promise<void> => {
    isCreated ||= workload.replica !== undefined;
    if (!isCreated || (count++ + seed) % every !== 0 || count > operationsMax) return;
    const left = workload.medium.clone();
    left.crash(random);
    const expectation = workload.expectation();
    if (found !== undefined) return;
    const where = `seed ${seed}, power loss before operation ${count - 1}: ${operation} ${path}`;
    try {
      await inspect(left, expectation, crashes++ % thoroughEvery === 0);
    } catch (error) {
      found ??= new assert.AssertionError({
        message: `${where}: ${describe(error)}\n${(error as Error).stack}`,
      });
    }
  };
  const workload: Workload = new Workload(seed, { before, ...(forgets && { forgets }) });
  // What is found is kept aside: the program under test must not see it as a failure of its disk.
  await workload.run();
  if (found !== undefined) throw found;
  return crashes;
}

// Every third operation, another third with every seed: the whole sweep takes a minute.
test('a power loss before any operation loses no acknowledged point and leaves no wrong one', async () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 31);
  const crashes = await sweep({ seed, every: 3, thoroughEvery: 4 });
  assert.ok(crashes > 100, `${crashes} crashes`);
});

const FORGOTTEN: Record<string, CrashHooks['forgets'] & {}> = {
  'the sync of a delta file': (operation, path) => operation === 'datasync' && path.endsWith('.partial'),
  'the sync of the log': (operation, path) => operation === 'datasync' && path.endsWith('points.log'),
  'the sync of the directory of delta files': (operation, path) =>
    operation === 'syncDirectory' && path.endsWith('deltas'),
  'the sync of a merged file': (operation, path) => operation === 'datasync' && path.endsWith('merging.new'),
  'the sync of the base': (operation, path) => operation === 'datasync' && path.endsWith('/base'),
  'the sync of the digests': (operation, path) => operation === 'datasync' && path.endsWith('base.digests'),
  'the sync of the tree': (operation, path) => operation === 'datasync' && path.endsWith('base.tree'),
  'the sync of the marks': (operation, path) => operation === 'datasync' && path.endsWith('base.marks'),
  'the sync of a new disk’s directory': (operation, path) =>
    operation === 'syncDirectory' && /disks/.test(path),
};

for (const [what, forgets] of Object.entries(FORGOTTEN)) {
  test(`the sweep notices a program that forgets ${what}`, async () => {
    for (let seed = 1; seed <= 6; seed++) {
      // A first copy's mistakes are made early, and are seen by who goes on with it.
      const scope = what.endsWith('marks')
        ? { every: 1, operationsMax: 80, thoroughEvery: 1 }
        : { every: 2, thoroughEvery: 2 };
      const isCaught = await sweep({ seed, forgets, ...scope }).then(
        () => false,
        () => true,
      );
      if (isCaught) return;
    }
    assert.fail('not noticed with 6 seeds');
  });
}
