import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readlink, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Backoff } from './backoff.ts';
import { absolutePath, httpsUrl, optional, parseConfig, port, readConfig, section, text } from './config.ts';
import { lockDirectory } from './directory-lock.ts';
import { readDurableJson, writeDurableJson } from './durable-json.ts';
import { Failure, hasCode } from './failure.ts';
import { createLog, failureFields } from './log.ts';
import { Mutex } from './mutex.ts';
import { identityUri, parseIdentityUri } from './peer-identity.ts';
import { BoundedQueue } from './queue.ts';
import { SeededRandom } from './random.ts';

async function directory() {
  const path = await mkdtemp(join(tmpdir(), 'antipode-lib-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const SHAPE = {
  dataDirectory: absolutePath,
  managerUrl: httpsUrl,
  listen: optional(section({ host: optional(text, '::'), port }), { host: '::', port: 7 }),
  tokenFile: optional(absolutePath, undefined),
};
const GOOD = { data_directory: '/var/lib/a', manager_url: 'https://[::1]:7480' };

test('a configuration is typed, frozen and has its defaults', () => {
  const config = parseConfig({ ...GOOD, listen: { port: 1 } }, SHAPE, 'c.json');
  const managerUrl: { host: string; port: number } = config.managerUrl;
  assert.deepEqual(
    { ...config, managerUrl },
    {
      dataDirectory: '/var/lib/a',
      managerUrl: { host: '::1', port: 7480 },
      listen: { host: '::', port: 1 },
      tokenFile: undefined,
    },
  );
  assert(Object.isFrozen(config) && Object.isFrozen(config.listen));
  assert.equal(parseConfig(GOOD, SHAPE, 'c.json').listen.port, 7);
});

test('whatever is wrong with a configuration stops the program and names the key', async () => {
  const cases: [unknown, RegExp][] = [
    [{ ...GOOD, color: 1 }, /c\.json: color: unknown key; known are data_directory, /],
    [{ ...GOOD, dataDirectory: '/a' }, /dataDirectory: unknown key/],
    [{ manager_url: GOOD.manager_url }, /data_directory: missing/],
    [{ ...GOOD, data_directory: 'relative' }, /data_directory: not an absolute path/],
    [{ ...GOOD, data_directory: '' }, /data_directory: not a text/],
    [{ ...GOOD, manager_url: 'http://a:1' }, /manager_url: not of the form/],
    [{ ...GOOD, manager_url: 'https://a:1/path' }, /manager_url: not of the form/],
    [{ ...GOOD, manager_url: 'https://user@a:1' }, /manager_url: not of the form/],
    [{ ...GOOD, listen: { port: 65_536 } }, /listen: port: not a port/],
    [{ ...GOOD, listen: { port: 1, post: 2 } }, /listen: post: unknown key/],
    [[], /not an object/],
    [null, /not an object/],
  ];
  for (const [value, pattern] of cases) {
    assert.throws(
      () => parseConfig(value, SHAPE, 'c.json'),
      (error) => error instanceof Failure && error.code === 'config_invalid' && pattern.test(error.message),
      JSON.stringify(value),
    );
  }
  await using own = await directory();
  await writeFile(join(own.path, 'c.json'), '{');
  for (const name of ['c.json', 'none.json']) {
    await assert.rejects(readConfig(join(own.path, name), SHAPE), (error) =>
      hasCode(error, 'config_invalid'),
    );
  }
});

test("a durable file is its owner's alone, and a torn write beside it does no harm", async () => {
  await using own = await directory();
  const path = join(own.path, 'state.json');
  assert.equal(await readDurableJson(path), undefined);
  await writeFile(`${path}.new`, '{"half":', { mode: 0o644 });
  await writeDurableJson(path, { whole: 1 });
  await writeDurableJson(path, { whole: 2 });
  assert.deepEqual(await readDurableJson(path), { whole: 2 });
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await writeFile(path, '');
  await assert.rejects(readDurableJson(path), (error) => hasCode(error, 'storage_corrupt'));
  await assert.rejects(writeDurableJson(join(path, 'below'), 1), (error) => hasCode(error, 'storage_io'));
});

test('a directory has one owner, and a killed one does not keep it', async () => {
  await using own = await directory();
  {
    await using _lock = await lockDirectory(own.path);
    await assert.rejects(lockDirectory(own.path), (error) => {
      assert(error instanceof Failure && error.code === 'conflict');
      assert.match(error.message, new RegExp(`process ${process.pid} is using it`));
      return true;
    });
  }
  const module = join(import.meta.dirname, 'directory-lock.ts');
  const script = `const { lockDirectory } = await import(${JSON.stringify(module)});
    await lockDirectory(${JSON.stringify(own.path)}); console.log('held'); setInterval(() => {}, 1e6);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  await assert.rejects(lockDirectory(own.path), (error) => hasCode(error, 'conflict'));
  child.kill('SIGKILL');
  await once(child, 'exit');
  await using again = await lockDirectory(own.path);
  assert(again !== undefined);
  // Another process has the id of a dead owner by now: its start time tells them apart.
  await rm(join(own.path, '.lock'));
  await symlink(`${process.pid} 1`, join(own.path, '.lock'));
  await using last = await lockDirectory(own.path);
  assert(last !== undefined);
  assert.match(await readlink(join(own.path, '.lock')), new RegExp(`^${process.pid} \\d{2,}$`));
});

test('a queue holds no more than its bounds, and keeps the order of those who wait', async () => {
  const queue = new BoundedQueue<number>({ countMax: 3, bytesMax: 10, bytesOf: (item) => item });
  assert.deepEqual(
    [queue.tryPut(4), queue.tryPut(4), queue.tryPut(4), queue.tryPut(2)],
    [true, true, false, true],
  );
  assert.deepEqual([queue.count, queue.bytes], [3, 10]);
  const order: number[] = [];
  const puts = [5, 1].map((item) => queue.put(item).then(() => order.push(item)));
  assert.deepEqual([await queue.take(), await queue.take()], [4, 4]);
  await Promise.all(puts);
  assert.deepEqual(order, [5, 1]);
  assert.deepEqual([await queue.take(), await queue.take(), await queue.take()], [2, 5, 1]);
  assert.equal(queue.tryPut(1000), true, 'one that is longer than all fits an empty queue');
  queue.end();
  assert.deepEqual([await queue.take(), await queue.take(), queue.tryPut(1)], [1000, undefined, false]);
});

test("who waits at a queue is let go by a signal or by its failure, and nobody's wake-up is lost", async () => {
  const queue = new BoundedQueue<number>({ countMax: 1 });
  const gone = new AbortController();
  const first = queue.take(gone.signal);
  const second = queue.take();
  gone.abort(new Error('gone'));
  await assert.rejects(first, /gone/);
  queue.tryPut(7);
  assert.equal(await second, 7);
  const third = queue.take();
  queue.fail(new Failure('unreachable', 'cut'));
  await assert.rejects(third, (error) => hasCode(error, 'unreachable'));
  await assert.rejects(queue.put(1), (error) => hasCode(error, 'unreachable'));
});

test('pauses double up to a limit, spread, and begin again after a success', () => {
  const backoff = new Backoff({ firstMs: 100, maxMs: 1000 }, new SeededRandom(1));
  const pauses = Array.from({ length: 50 }, () => backoff.nextMs());
  for (const [index, pause] of pauses.entries()) {
    const fullMs = Math.min(1000, 100 * 2 ** index);
    assert(pause >= fullMs / 2 && pause <= fullMs, `pause ${index}: ${pause}`);
  }
  assert(new Set(pauses.slice(10)).size > 20);
  backoff.reset();
  assert(backoff.nextMs() <= 100);
});

test('a mutex runs one at a time, in order, and goes on after an error', async () => {
  const mutex = new Mutex();
  const events: string[] = [];
  const work = (name: string, error?: Error) => async (): Promise<void> => {
    events.push(`${name} begins`);
    await Promise.resolve();
    events.push(`${name} ends`);
    if (error !== undefined) throw error;
  };
  const failing = mutex.run(work('a', new Error('no')));
  const fine = mutex.run(work('b'));
  await assert.rejects(failing, /no/);
  await fine;
  assert.deepEqual(events, ['a begins', 'a ends', 'b begins', 'b ends']);
});

test('a log line is one JSON object, whatever it is told', () => {
  const lines: string[] = [];
  const log = createLog('agent', (line) => lines.push(line)).with({ vm: 'a\nb' });
  const cause = new Error('x'.repeat(5000));
  log.error('cycle.failed', failureFields(new Failure('timeout', 'wait', { cause, hint: 'Look.' })));
  assert.equal(lines.length, 1);
  assert.equal(lines[0]!.indexOf('\n'), lines[0]!.length - 1);
  const line = JSON.parse(lines[0]!) as Record<string, string>;
  assert.deepEqual(
    [line['level'], line['vm'], line['code'], line['hint']],
    ['error', 'a\nb', 'timeout', 'Look.'],
  );
  assert.equal(line['reason']!.length, 2000);
});

test('only the URI of a program names one', () => {
  const identity = { siteId: 'west', role: 'agent' as const, id: 'a-1' };
  assert.deepEqual(parseIdentityUri(identityUri(identity)), identity);
  for (const uri of [
    'antipode://west/agent/',
    'antipode://west/agent/a/b',
    'antipode://west/root/a',
    'antipode:///agent/a',
    'antipode://West/agent/a',
    'antipode://west/agent/a?x',
    'https://west/agent/a',
    `antipode://west/agent/${'a'.repeat(65)}`,
  ]) {
    assert.equal(parseIdentityUri(uri), undefined, uri);
  }
});
