/** The start hook: the script by itself under three shells, and at work in a real libvirt. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { NodeFileSystem } from '#/disk/node-file-system.ts';
import { silentLog } from '#/lib/log.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import { epochMark } from '#/recovery/epoch-mark.ts';
import { serializeXml } from '#/libvirt/xml.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import { encodeFence } from './fence-record.ts';
import { FenceStore } from './fence-store.ts';
import { HookKeeper } from './hook-keeper.ts';
import { hookText, installHook, isHookAtWork } from './start-hook.ts';

const UUID = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001';
const OTHER = '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1002';
const WEST = 'site-west';
const EAST = 'site-east';

function claim(epoch: number, siteId: string) {
  return { vm_uuid: UUID, epoch, site_id: siteId, issued_ms: 1, signature: 's'.repeat(86) };
}

function record(epoch: number, siteId: string) {
  return { claim: claim(epoch, siteId), siteName: siteId.slice(5), vmName: 'ledger' };
}

/** As libvirt gives a definition to its hooks. */
function definition(uuid: string, mark: string, more = ''): string {
  return `<domain type='qemu' id='1'>
  <name>ledger</name>
  <uuid>${uuid}</uuid>
${more}${mark === '' ? '' : `  <metadata>\n    ${mark}\n  </metadata>\n`}  <memory unit='KiB'>16384</memory>
  <devices>
  </devices>
</domain>
`;
}

function mark(epoch: number, siteId: string): string {
  return serializeXml(epochMark({ claim: claim(epoch, siteId), yielded: undefined }));
}

let directory: string;
let script: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "antipode-hook's-"));
  script = join(directory, 'hook');
  const options = { hookDirectory: directory, fenceDirectory: join(directory, 'fence') };
  await writeFile(script, await hookText({ ...options, siteId: WEST, siteName: "we'st" }), { mode: 0o755 });
  await mkdir(join(directory, 'fence'));
});
after(() => rm(directory, { recursive: true, force: true }));

const SHELLS = [['dash'], ['bash', '--posix'], ['busybox', 'sh']];

/** What the hook says when it refuses; undefined when it does not. All shells say the same. */
function refusal(xml: string, operation = 'prepare'): string | undefined {
  const answers = SHELLS.map(([shell, ...options]) => {
    const args = [...options, script, 'ledger', operation, 'begin', '-'];
    const { status, stderr, stdout } = spawnSync(shell!, args, { input: xml, encoding: 'utf8' });
    assert.equal(stdout, '');
    assert.equal(status === 0, stderr === '', `${shell}: ${status} ${stderr}`);
    return status === 0 ? undefined : stderr;
  });
  assert.equal(new Set(answers).size, 1, answers.join('\n'));
  return answers[0];
}

async function fence(content: string | Uint8Array | undefined): Promise<void> {
  const path = join(directory, 'fence', UUID);
  if (content === undefined) await rm(path, { force: true });
  else await writeFile(path, content);
}

test('a VM without a record starts, whatever it is', async () => {
  await fence(encodeFence(record(2, EAST)));
  assert.equal(refusal(definition(OTHER, mark(1, WEST))), undefined);
  assert.equal(refusal(definition(OTHER, '')), undefined);
  assert.equal(refusal(''), undefined);
  assert.equal(refusal('no XML'), undefined);
  assert.equal(refusal(definition('../../../etc/passwd', '')), undefined);
  // The UUID of another VM in a text that the owner chooses is not the VM's own.
  assert.equal(
    refusal(`<domain>\n  <title>\n  <uuid>${UUID}</uuid>\n</title>\n  <uuid>${OTHER}</uuid>\n`),
    undefined,
  );
});

test('a copy of a VM that runs elsewhere is refused with its epochs, the site and the way out', async () => {
  await fence(encodeFence(record(2, EAST)));
  for (const marked of [mark(1, WEST), mark(2, WEST), mark(2, EAST), mark(3, EAST), '']) {
    const said = refusal(definition(UUID, marked));
    assert.match(said ?? '', /refuses to start VM ledger: it runs at site east since epoch 2/);
    assert.match(said ?? '', new RegExp(`antipode fence release ${UUID}`));
  }
  assert.match(refusal(definition(UUID, mark(1, WEST))) ?? '', /this copy, at site we'st, is of epoch 1/);
});

test('at the site that runs it the copy of that epoch or a newer one starts, and an older one is refused', async () => {
  await fence(encodeFence(record(3, WEST)));
  assert.equal(refusal(definition(UUID, mark(3, WEST))), undefined);
  assert.equal(refusal(definition(UUID, mark(12, WEST))), undefined);
  assert.match(refusal(definition(UUID, mark(2, WEST))) ?? '', /this definition is of epoch 2.*epoch 3/);
  assert.match(refusal(definition(UUID, '')) ?? '', /this definition is of epoch 0/);
  assert.match(refusal(definition(UUID, mark(1e20, WEST))) ?? '', /epoch 0/);
});

test('a definition that is newer than the record decides: it came from where more is known', async () => {
  await fence(encodeFence(record(2, EAST)));
  assert.equal(refusal(definition(UUID, mark(3, WEST))), undefined);
});

test('with an epoch that was never raised nothing is refused, whatever was done to the definition', async () => {
  await fence(encodeFence(record(1, WEST)));
  assert.equal(refusal(definition(UUID, '')), undefined);
  assert.equal(refusal(definition(UUID, mark(1, WEST))), undefined);
});

test('only starts are looked at: a VM that runs is never ended by the hook', async () => {
  await fence(encodeFence(record(2, EAST)));
  for (const operation of [
    'reconnect',
    'started',
    'stopped',
    'release',
    'migrate',
    'restore',
    'attach',
    '',
  ]) {
    assert.equal(refusal(definition(UUID, ''), operation), undefined, operation);
  }
});

test('no beginning of a record lets the VM start elsewhere: a damaged one is refused by name, with the way out', async () => {
  const bytes = encodeFence(record(2, EAST));
  const shells = SHELLS.splice(1);
  for (let length = 0; length < bytes.length - 12; length += 7) {
    await fence(bytes.subarray(0, length));
    const said = refusal(definition(UUID, mark(1, WEST))) ?? '';
    assert.match(said, /fence record .* is damaged.*remove the file/, `${length} bytes`);
  }
  SHELLS.push(...shells);
  for (const text of [
    '\0\0\0',
    'antipode-fence 2\n',
    `antipode-fence 1\nvm ${OTHER}\nepoch 2\nsite x\ncrc32 0\n`,
  ]) {
    await fence(text);
    assert.match(refusal(definition(UUID, '')) ?? '', /damaged/);
  }
  await fence(undefined);
  assert.equal(refusal(definition(UUID, mark(1, WEST))), undefined);
});

test('libvirt refuses by the hook once it has looked for it, and keeps the hooks of others', async () => {
  await using daemon = await startPrivateLibvirtd();
  await using libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  const hooks = join(daemon.directory, '../etc/hooks');
  const store = new FenceStore(new NodeFileSystem(daemon.directory), 'fence');
  await store.load();
  const fenceDirectory = join(daemon.directory, 'fence');
  const hook = { hookDirectory: hooks, fenceDirectory, siteId: WEST, siteName: 'west' };
  const keeper = (reload: () => Promise<boolean>): HookKeeper =>
    new HookKeeper({ hook, store, reload, clock: systemClock, log: silentLog });
  const signal = AbortSignal.timeout(60_000);

  // The daemon has started before there were hooks, and nobody tells it: said as it is.
  const idle = keeper(() => Promise.resolve(false));
  await idle.look(libvirt, signal);
  assert.equal(idle.report.is_working, false);
  assert.match(idle.report.failure?.hint ?? '', /restart libvirtd/);

  const calls = join(daemon.directory, 'calls');
  await writeOwnersHook(join(hooks, 'qemu'), calls, 'old');
  await writeOwnersHook(join(hooks, 'qemu.d', 'zz-owner'), calls, 'new');
  const working = keeper(() => tellDaemon(daemon));
  await working.look(libvirt, signal);
  assert.deepEqual({ ...working.report, checked_ms: 0 }, { is_working: true, checked_ms: 0, failure: null });
  assert.equal(await installHook(hook), false, 'it stays as it is');
  assert.deepEqual(await readdir(hooks), ['qemu', 'qemu.d']);

  await store.raise(record(2, EAST));
  for (const [name, uuid] of [
    ['ledger', UUID],
    ['free', OTHER],
  ] as const) {
    await libvirt.defineDomain(tinyVm(name, uuid));
  }
  await libvirt.lookupDomainByName('free').then((domain) => domain.start());
  const seen = await readFile(calls, 'utf8');
  assert.match(seen, /old free prepare/);
  assert.match(seen, /new free prepare/);
  const refused = daemon.run('virsh', ['-c', 'qemu:///system', 'start', 'ledger']);
  await assert.rejects(refused, /Antipode refuses to start VM ledger: it runs at site east since epoch 2/);

  // A daemon that starts finds the hook by itself.
  await daemon.killDaemon();
  await daemon.start();
  await using again = await Libvirt.connect({ socketPath: daemon.socketPath });
  assert.equal(await isHookAtWork(again, 'qemu', store), true);
  assert.equal((await (await again.lookupDomainByName('free')).getState()).state, 'running');
  assert.deepEqual((await again.listDomains()).map(({ name }) => name).toSorted(), ['free', 'ledger']);
});

async function writeOwnersHook(path: string, calls: string, word: string): Promise<void> {
  await writeFile(path, `#!/bin/sh\ncat > /dev/null\necho ${word} "$1" "$2" >> ${calls}\n`, { mode: 0o755 });
}

async function tellDaemon(daemon: PrivateLibvirtd): Promise<boolean> {
  const pid = await daemon.run('cat', ['/run/libvirtd.pid']);
  await daemon.run('kill', ['-HUP', pid.trim()]);
  return true;
}

function tinyVm(name: string, uuid: string): string {
  return `<domain type="qemu"><name>${name}</name><uuid>${uuid}</uuid><memory unit="MiB">16</memory>
    <os><type>hvm</type></os></domain>`;
}
