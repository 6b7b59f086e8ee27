import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { createProgram } from '#/cli/program.ts';
import { helpOf, manPages } from './man-pages.ts';

const ROOT = join(import.meta.dirname, '../..');
const pages = await manPages(ROOT);

test('every command has a manual page that says what its --help says, word by word', async () => {
  const program = await createProgram();
  for (const command of program.commands) {
    const page = pages.get(`man1/antipode-${command.name()}.1`);
    assert(page !== undefined, command.name());
    const shown = rendered(page);
    for (const line of helpOf(command).split('\n')) {
      assert(shown.includes(line.trim()), `antipode-${command.name()}: ${line}`);
    }
  }
});

test('no manual page has what roff warns of, and none loses a line that begins like a request', () => {
  for (const [path, page] of pages) {
    const { stdout, stderr } = spawnSync('groff', ['-man', '-ww', '-z', '-Tutf8'], {
      input: page,
      encoding: 'utf8',
    });
    assert.equal(`${stdout}${stderr}`.replaceAll(/^.*cannot (break|adjust) line.*\n/gm, ''), '', path);
  }
  assert.match(rendered(pages.get('man5/antipode.json.5')!), /advertised_host/);
  assert.match(rendered(pages.get('man7/antipode-install.7')!), /systemctl enable --now antipode-manager/);
});

function rendered(page: string): string {
  const argv = ['-man', '-Tutf8', '-P-c', '-P-b', '-P-u', '-rLL=200n'];
  return execFileSync('groff', argv, { input: page, encoding: 'utf8' });
}
