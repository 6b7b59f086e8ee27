import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { brotliDecompressSync } from 'node:zlib';
import { Failure } from '#/lib/failure.ts';
import { WebFiles } from './web-files.ts';

let directory: string;
const HTML = '<!doctype html><title>Antipode</title>';

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'antipode-web-'));
});
after(() => rm(directory, { recursive: true, force: true }));

test('a page that was not built says so, and is served as soon as it was', async () => {
  const files = new WebFiles(join(directory, 'dist'));
  const before = await files.page(undefined);
  assert.equal(before.status, 503);
  assert.match(String(before.body), /antipode web/);
  await mkdir(join(directory, 'dist/assets'), { recursive: true });
  await writeFile(join(directory, 'dist/index.html'), HTML);
  await writeFile(join(directory, 'dist/assets/a-1.js'), 'export {};');
  await writeFile(join(directory, 'dist/assets/font-1.woff2'), 'font');
  const page = await files.page('gzip');
  assert.deepEqual([page.status, String(page.body), page.type], [200, HTML, 'text/html; charset=utf-8']);
  assert.equal(page.headers['cache-control'], 'no-cache');
  const script = await files.asset('a-1.js', 'gzip, br');
  assert.equal(script.headers['content-encoding'], 'br');
  assert.equal(brotliDecompressSync(script.body as Buffer).toString(), 'export {};');
  assert.match(String(script.headers['cache-control']), /immutable/);
  const font = await files.asset('font-1.woff2', 'br');
  assert.deepEqual([font.type, font.headers['content-encoding']], ['font/woff2', undefined]);
});

test('only files of the page are served, whatever is asked for', async () => {
  const files = new WebFiles(join(directory, 'dist'));
  for (const name of ['nothing.js', '../index.html', '..', '%2e%2e/index.html']) {
    await assert.rejects(files.asset(name, undefined), (error) => {
      assert(error instanceof Failure && error.code === 'not_found');
      return true;
    });
  }
});
