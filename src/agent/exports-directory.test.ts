/** The directory of exports, tried as another user, as QEMU is one. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeExportsDirectory } from './exports-directory.ts';

const USER = 64_055;

test('QEMU, which is not root, makes its sockets in a directory of its own, and nowhere beside it', async (t) => {
  const run = mkdtempSync(join(tmpdir(), 'antipode-exports-'));
  t.after(() => rmSync(run, { recursive: true, force: true }));
  chmodSync(run, 0o711);
  await makeExportsDirectory(run, undefined);
  const path = await makeExportsDirectory(run, USER);
  assert.equal(statSync(path).uid, USER, 'also when it was there before');
  const asUser = (file: string) =>
    execFileSync('setpriv', [`--reuid=${USER}`, '--clear-groups', 'touch', file], { stdio: 'pipe' });
  asUser(join(path, 'a.sock'));
  assert.throws(() => asUser(join(run, 'manager.sock')), /Permission denied/);
});
