import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { machineIdentity } from './machine-identity.ts';

test('programs of a machine agree, other machines differ, and the machine id itself stays at home', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'machine-'));
  t.after(() => rm(directory, { recursive: true }));
  const write = async (name: string, text: string): Promise<string> => {
    await writeFile(join(directory, name), text);
    return join(directory, name);
  };
  const id = '0123456789abcdef0123456789abcdef';
  const own = await machineIdentity(await write('own', `${id}\n`));
  assert.match(own, /^[0-9a-f]{32}$/);
  assert.notEqual(own, id);
  assert.equal(await machineIdentity(await write('same', id)), own);
  assert.notEqual(await machineIdentity(await write('other', `${id.replace('0', '1')}\n`)), own);
  const nameless = await machineIdentity(join(directory, 'missing'));
  assert.equal(await machineIdentity(await write('damaged', 'uninitialized\n')), nameless);
  assert.notEqual(nameless, own);
});
