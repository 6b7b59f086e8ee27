import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { SeededRandom } from '#/lib/random.ts';
import { fixedClock, IDENTITY, sha256, SourceModel } from '#/replica/replica-fixture.ts';
import { createReplica } from '#/replica/stored-replica.ts';

const MAIN = new URL('./main.ts', import.meta.url).pathname;
const DEFINITION = '<domain type="kvm"/>';
let directory = '';
let model: SourceModel;

type Result = { code: number; stdout: string; stderr: string };

function antipode(...argv: string[]): Promise<Result> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, 'replica', ...argv], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr });
    });
  });
}

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'antipode-cli-'));
  model = new SourceModel(new SeededRandom(77));
  model.addDisk('vda', 3 * 1024 * 1024);
  model.addDisk('vdb', 100 * 1024);
  const files = new NodeFileSystem(directory);
  await using replica = await createReplica({ files, clock: fixedClock(), directory: 'store/r-1' }, IDENTITY);
  const bytes = new TextEncoder().encode(DEFINITION);
  const attachment = { kind: 'definition' as const, sha256: sha256(bytes), bytes: bytes.length };
  await replica.putAttachment(attachment.sha256, bytes);
  for (let i = 0; i < 3; i++) {
    model.scribble(10);
    await model.send(replica, [attachment]);
  }
});

after(() => rm(directory, { recursive: true, force: true }));

test('list shows the replicas of a store, and one of its own', async () => {
  for (const path of ['store', 'store/r-1']) {
    const { code, stdout } = await antipode('list', join(directory, path), '--json');
    assert.equal(code, 0);
    const [replica] = JSON.parse(stdout) as { replica_id: string; points: number; newest: unknown }[];
    assert.equal(replica?.replica_id, 'r-1');
    assert.equal(replica.points, 3);
    assert.deepEqual(replica.newest, { sequence: 3, moment: '2023-11-14T22:13:30.000Z' });
  }
  const { stdout } = await antipode('list', join(directory, 'store'));
  assert.match(stdout, /ledger +east +3 +2023-11-14T22:13:30\.000Z/);
});

test('points shows every recovery point', async () => {
  const { code, stdout } = await antipode('points', join(directory, 'store/r-1'));
  assert.equal(code, 0);
  assert.equal(stdout.trim().split('\n').length, 4);
  assert.match(stdout, /2 +2023-11-14T22:13:25\.000Z +crash .*vda 3\.0 MiB, vdb 0\.1 MiB/);
});

test('export writes disks that equal the source, raw and qcow2, with the definition beside them', async () => {
  for (const [sequence, format] of [
    [2, 'raw'],
    [3, 'qcow2'],
  ] as const) {
    const target = join(directory, `out-${format}`);
    const argv = [join(directory, 'store/r-1'), target, '--point', String(sequence), '--format', format];
    const { code, stdout, stderr } = await antipode('export', ...argv);
    assert.equal(code, 0, stderr);
    for (const [key, content] of model.points.get(sequence)!) {
      assert.ok(stdout.includes(createHash('sha256').update(content).digest('hex')));
      const raw = format === 'raw' ? join(target, `${key}.raw`) : await asRaw(join(target, `${key}.qcow2`));
      assert.ok(Buffer.compare(await readFile(raw), content) === 0, `${key} as ${format}`);
    }
    assert.equal(await readFile(join(target, 'definition.xml'), 'utf8'), DEFINITION);
    assert.equal((await readdir(target)).filter((name) => /part|converting/.test(name)).length, 0);
    const again = await antipode('export', ...argv, '--json');
    assert.equal(again.code, 4);
    assert.equal((JSON.parse(again.stderr) as { code: string }).code, 'already_exists');
  }
  const { blocks, size } = await stat(join(directory, 'out-raw/vda.raw'));
  assert.ok(blocks * 512 < size, 'a thin disk stays thin');
});

async function asRaw(path: string): Promise<string> {
  const raw = `${path}.raw`;
  await new Promise<void>((resolve, reject) => {
    execFile('qemu-img', ['convert', '-O', 'raw', path, raw], (error) => {
      if (error === null) resolve();
      else reject(new Error('qemu-img convert', { cause: error }));
    });
  });
  return raw;
}

test('a directory without a replica, a point that never was, a wrong word are refused by name', async () => {
  const replica = join(directory, 'store/r-1');
  const cases: [string[], number, RegExp][] = [
    [['points', join(directory, 'nowhere')], 4, /no such directory/],
    [['points', join(directory, 'store')], 4, /holds none/],
    [['export', replica, join(directory, 'x'), '--point', '9'], 4, /open point 9: the newest is 3/],
    [['export', replica, join(directory, 'x'), '--point', 'last'], 2, /"last" is no recovery point/],
    [['export', replica, join(directory, 'x'), '--format', 'vmdk'], 2, /--format raw or --format qcow2/],
    [['export', replica], 2, /missing required argument/],
  ];
  for (const [argv, expected, words] of cases) {
    const { code, stderr } = await antipode(...argv);
    assert.equal(code, expected, argv.join(' '));
    assert.match(stderr, words);
  }
});

test('verify passes a good replica, and names the block that rotted', async () => {
  const replica = join(directory, 'store/r-1');
  const good = await antipode('verify', replica);
  assert.equal(good.code, 0, good.stderr);
  assert.match(good.stdout, /^3 points, \d+ blocks checked, 0 problems/);
  const path = join(replica, 'disks/1/base');
  const content = await readFile(path);
  const at = content.findIndex((byte) => byte !== 0);
  await using file = await open(path, 'r+');
  await file.write(Uint8Array.of(content[at]! ^ 4), 0, 1, at);
  const bad = await antipode('verify', replica, '--json');
  assert.equal(bad.code, 3);
  const { problems } = JSON.parse(bad.stdout) as { problems: { where: string }[] };
  assert.match(problems[0]!.where, new RegExp(`^point 1, vda, .*block ${Math.floor(at / 4096)}$`));
  await writeFile(path, content);
});
