/** A bundle in which secrets were planted wherever it looks. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeBundle } from './support-bundle.ts';

const SECRET = 'hunter2';

test('no secret is in a bundle, wherever it was planted, and the manifest says what is not there', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-bundle-'));
  try {
    const manager = {
      data_directory: '/var/lib/antipode/manager',
      site_name: 'west',
      database_url: `postgresql://user:${SECRET}@db/west`,
      openid_connect: { client_secret: SECRET },
      a_key_of_a_later_version: SECRET,
    };
    await writeFile(join(directory, 'manager.json'), JSON.stringify(manager));
    await writeFile(join(directory, 'agent.json'), `{"broken": "${SECRET}"`);
    const told = [
      `-----BEGIN PRIVATE KEY-----\n${SECRET}\n-----END PRIVATE KEY-----`,
      `postgresql://user:${SECRET}@db/west`,
      `smtps://ops:${SECRET}@mail.example`,
      `https://chat.example/hook?token=${SECRET}`,
      `apt1.${SECRET}${SECRET}`,
      `authorization: Bearer ${SECRET}`,
      `password=${SECRET}`,
      `{"client_secret":"${SECRET}"}`,
    ];
    const path = join(directory, 'bundle.tar.gz');
    const manifest = await makeBundle(path, {
      configDirectory: directory,
      examination: { state: 'good', findings: [] },
      ask: async (name) => {
        if (name === 'audit') throw new Error(`refused to ${SECRET.length} characters, password=${SECRET}`);
        return { told, plain: told.join('\n'), password: SECRET };
      },
    });
    assert.equal((await stat(path)).mode & 0o777, 0o600);
    const out = join(directory, 'out');
    execFileSync('mkdir', [out]);
    execFileSync('tar', ['-xzf', path, '-C', out]);
    const names = await readdir(join(out, 'bundle'));
    assert(
      names.includes('manifest.json') && names.includes('api-status.json') && names.includes('doctor.json'),
    );
    const all = execFileSync(
      'cat',
      names.map((name) => join(out, 'bundle', name)),
      { encoding: 'utf8', maxBuffer: 1e8 },
    );
    assert.match(all, /"site_name": "west"/);
    assert.match(all, /"database_url": "\(left out\)"/);
    const found = all.split('\n').filter((line) => line.includes(SECRET));
    assert.deepEqual(found, []);
    const missing = manifest.entries.find(({ file }) => file === 'replication-server.config.json');
    assert.match(missing !== undefined && 'left_out' in missing ? missing.left_out : '', /ENOENT/);
    assert.equal(
      (await readdir(directory)).some((name) => name.startsWith('.support')),
      false,
    );
  } finally {
    await rm(directory, { recursive: true });
  }
});
