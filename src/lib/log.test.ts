/** The log as a journal and as people read it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';

const SCRIPT = `import { createLog } from '#/lib/log.ts';
const log = createLog('p').with({ vm: 'ledger' });
log.info('one'); log.warning('two'); log.error('three');`;

/** What a program says to a standard error whose device and inode are those that the journal names, or not. */
function said(isJournal: boolean, level?: string): string[] {
  const directory = mkdtempSync(join(tmpdir(), 'antipode-log-'));
  const path = join(directory, 'log');
  const file = openSync(path, 'w');
  try {
    const { dev, ino } = fstatSync(file);
    const env = {
      ...process.env,
      JOURNAL_STREAM: isJournal ? `${dev}:${ino}` : '1:1',
      ...(level === undefined ? {} : { ANTIPODE_LOG_LEVEL: level }),
    };
    execFileSync(process.execPath, ['--input-type=module', '-e', SCRIPT], {
      env,
      stdio: ['ignore', 'ignore', file],
    });
    return readFileSync(path, 'utf8').trim().split('\n');
  } finally {
    closeSync(file);
    rmSync(directory, { recursive: true });
  }
}

test('to the journal each line begins with its priority, elsewhere it is JSON alone', () => {
  const lines = said(true);
  assert.deepEqual(
    lines.map((line) => line.slice(0, 3)),
    ['<6>', '<4>', '<3>'],
  );
  const events = said(false).map((line) => JSON.parse(line) as { event: string; vm: string });
  assert.deepEqual(
    events.map(({ event, vm }) => [event, vm]),
    [
      ['one', 'ledger'],
      ['two', 'ledger'],
      ['three', 'ledger'],
    ],
  );
});

test('below the level that is set nothing is said', () => {
  assert.equal(said(false, 'warning').length, 2);
  assert.equal(said(false, 'error').length, 1);
});
