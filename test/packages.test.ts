/** The Debian packages on a Debian that has nothing else: installed, run, upgraded, removed, purged. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '#lab/command.ts';
import { CleanRoot } from './clean-root.ts';
import { parseUnit, UnitRun } from './unit-run.ts';

const ANTIPODE = join(import.meta.dirname, '../antipode');
const OLD = '0.0.1~test';
const NEW = '0.0.2~test';
const PROGRAMS = ['manager', 'replication-server', 'agent'];
const NAMES = ['antipode-common', ...PROGRAMS.map((program) => `antipode-${program}`)];
const BUILD_TIMEOUT_MS = 300_000;

type Built = { name: string; path: string; bytes: number; sha256: string };
let directory: string;
let root: CleanRoot;
/** Everything in the clean root before anything of ours was there. */
let untouched: string[];
const built = new Map<string, Built[]>();

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'antipode-packages-'));
  root = await CleanRoot.make();
  untouched = await listing();
  for (const version of [OLD, NEW]) {
    const out = join(directory, version);
    const argv = [ANTIPODE, 'package', '--quick', '--json', '--version', version, '--out', out];
    const { stdout } = await run(argv, { timeoutMs: BUILD_TIMEOUT_MS });
    const { packages } = JSON.parse(stdout) as { packages: Built[] };
    built.set(version, packages);
    for (const { path } of packages) await root.copyIn(path, `/root/${basename(path)}`);
  }
});
after(async () => {
  await root?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

test('two builds of one checkout have the same files, byte for byte', () => {
  for (const name of NAMES) {
    const [first, second] = [OLD, NEW].map((version) => filesIn(built.get(version)!, name));
    assert(first!.length > 0 && first!.equals(second!), name);
  }
});

test('a first install starts nothing, says what comes next, and gives every file to who should have it', async () => {
  const { stdout } = await install(OLD);
  for (const program of PROGRAMS)
    assert.match(stdout, new RegExp(`systemctl enable --now antipode-${program}`));
  assert.match(stdout, /antipode admin first-link/);
  const { stdout: processes } = await root.sh('cat /proc/[0-9]*/comm');
  assert.doesNotMatch(processes, /node/, 'nothing runs');
  const stat = ['stat', '-c', '%U:%G %a %n'];
  const { stdout: modes } = await root.run([
    ...stat,
    '/etc/antipode',
    '/usr/bin/antipode',
    '/usr/lib/antipode/bin/node',
    '/usr/lib/antipode/src/manager/main.ts',
    '/var/lib/antipode',
    '/var/lib/antipode/manager',
    '/var/lib/antipode/replication-server',
    '/var/lib/antipode/replicas',
    '/var/lib/antipode/agent',
    '/var/lib/antipode/scratch',
  ]);
  assert.equal(
    modes,
    `root:root 755 /etc/antipode
root:root 755 /usr/bin/antipode
root:root 755 /usr/lib/antipode/bin/node
root:root 644 /usr/lib/antipode/src/manager/main.ts
root:root 711 /var/lib/antipode
antipode-manager:antipode-manager 700 /var/lib/antipode/manager
antipode-server:antipode-server 700 /var/lib/antipode/replication-server
antipode-server:antipode-server 700 /var/lib/antipode/replicas
root:root 700 /var/lib/antipode/agent
root:root 711 /var/lib/antipode/scratch
`,
  );
  const { stdout: wrong } = await root.sh(
    'find /usr/lib/antipode ! -type l \\( ! -user root -o ! -group root -o -perm /022 \\)',
  );
  assert.equal(wrong, '', 'only root can change what runs');
  await root.sh('cd / && dpkg --verify antipode-common antipode-manager antipode-agent');
});

test('the command line works there, and says that the lab belongs to a checkout', async () => {
  const { stdout } = await root.run(['antipode', '--help']);
  assert.match(stdout, /Usage: antipode/);
  const missing = await root.run(['antipode', 'status'], { allowFailure: true });
  assert.match(missing.stderr, /there is no manager at/);
  const { stdout: page } = await root.sh('gzip -dc /usr/share/man/man1/antipode-recover.1.gz');
  assert.match(page, /Usage: antipode recover/);
  await root.run([
    'bash',
    '-c',
    'source /usr/share/bash-completion/completions/antipode && declare -F _antipode',
  ]);
  const lab = await root.run(['antipode', 'lab', 'up'], { allowFailure: true });
  assert.equal(lab.code, 2);
  assert.match(lab.stderr, /checkout/);
});

test('every program starts as its unit says, with its own user and capabilities, and wants its configuration', async () => {
  for (const program of PROGRAMS) {
    await using ran = await UnitRun.start(root, `antipode-${program}`);
    assert.equal(await ran.exit(), 2, program);
    assert.match(ran.said, new RegExp(`/etc/antipode/${program}.json`));
    const { stdout } = await root.run(['cat', `/usr/lib/systemd/system/antipode-${program}.service`]);
    const unit = parseUnit(stdout);
    assert.deepEqual(unit.get('AssertPathExists'), [`/etc/antipode/${program}.json`]);
    assert.deepEqual(
      unit.get('RestartPreventExitStatus'),
      ['2'],
      'what exit code 2 says does not mend itself',
    );
  }
});

test('an upgrade keeps what the manager knows, and the database of a newer version is refused by name', async () => {
  await configureManager();
  let link: string;
  {
    await using manager = await UnitRun.start(root, 'antipode-manager');
    await manager.says('manager.ready');
    const { stdout: owner } = await root.sh(
      'stat -c "%U %a" /run/antipode/manager.sock /var/lib/antipode/manager/manager.db',
    );
    assert.equal(owner, 'antipode-manager 600\nantipode-manager 600\n');
    ({ stdout: link } = await root.run(['antipode', 'admin', 'first-link']));
    assert.match(link, /^https:\/\/kvm-west\.example:7480\/first#/);
    await root.run(['antipode', 'group', 'create', 'shop'], { allowFailure: true });
    await root.run(['antipode', 'token', 'create', 'kept', '--role', 'read-only']);
    await root.run(['antipode', 'join-token', 'agent']);
  }
  await install(NEW);
  const { stdout: versions } = await root.run(['dpkg-query', '-W', '-f', '${Version}\n', ...NAMES]);
  assert.equal(versions, `${NEW}\n`.repeat(NAMES.length));
  {
    await using manager = await UnitRun.start(root, 'antipode-manager');
    await manager.says('manager.ready');
    const { stdout: tokens } = await root.run(['antipode', 'tokens', '--json']);
    assert.match(tokens, /"kept"/);
  }
  await root.run(['/usr/lib/antipode/bin/node', '-e', FROM_THE_FUTURE]);
  await using refused = await UnitRun.start(root, 'antipode-manager');
  assert.equal(await refused.exit(), 2);
  assert.match(refused.said, /the database was written by a newer manager/);
  assert.match(refused.said, /Run the newer version, or restore a backup/);
});

test('removing keeps configuration and data; a purge says where the site and its replicas still are', async () => {
  await root.sh(
    'install -d -o antipode-server /var/lib/antipode/replicas/r1; touch /var/lib/antipode/replicas/r1/superblock',
  );
  await root.sh(
    'printf "{}" > /etc/antipode/agent.json; mkdir -p /etc/libvirt/hooks/qemu.d /var/lib/antipode/agent/fence',
  );
  await root.sh('cp /usr/lib/antipode/src/agent/start-hook.sh /etc/libvirt/hooks/qemu.d/antipode');
  await root.sh('echo mine > /etc/libvirt/hooks/qemu.d/own; touch /var/lib/antipode/agent/fence/7a2c9a52');
  await root.run(['dpkg', '--remove', ...NAMES.toReversed()]);
  await root.sh('test -e /etc/antipode/manager.json && test -e /var/lib/antipode/manager/manager.db');
  await root.sh('test -e /etc/libvirt/hooks/qemu.d/antipode && test ! -e /usr/lib/antipode');
  const { stderr } = await root.run(['dpkg', '--purge', ...NAMES.toReversed()]);
  assert.match(stderr, /the site stay in \/var\/lib\/antipode\/manager/);
  assert.match(stderr, /stay: \/var\/lib\/antipode\/replicas/);
  assert.match(stderr, /1 VMs had a fence record/);
  await root.sh(
    'test -e /var/lib/antipode/replicas/r1/superblock && test -e /var/lib/antipode/manager/manager.db',
  );
  const { stdout: hooks } = await root.run(['ls', '/etc/libvirt/hooks/qemu.d']);
  assert.equal(hooks, 'own\n', "only our hook is gone, not somebody else's");
});

test('installed again it is the site that it was; and after its data is given up, nothing is left behind', async () => {
  await install(OLD);
  await configureManager();
  await root.run(['/usr/lib/antipode/bin/node', '-e', BACK_FROM_THE_FUTURE]);
  {
    await using manager = await UnitRun.start(root, 'antipode-manager');
    await manager.says('manager.ready');
    assert.match((await root.run(['antipode', 'tokens', '--json'])).stdout, /"kept"/);
  }
  await root.sh('rm -r /var/lib/antipode/manager/* /var/lib/antipode/replicas/r1 /etc/libvirt');
  await root.run(['dpkg', '--purge', ...NAMES.toReversed()]);
  const left = (await listing()).filter((path) => !untouched.includes(path));
  assert.deepEqual(left, []);
  const { stdout: users } = await root.sh('cat /etc/passwd /etc/group');
  assert.doesNotMatch(users, /antipode/);
});

const CHANGE =
  'const { DatabaseSync } = require("node:sqlite");new DatabaseSync("/var/lib/antipode/manager/manager.db").exec';
const FROM_THE_FUTURE = `${CHANGE}("INSERT INTO kysely_migration VALUES ('9999-later', '2030-01-01')")`;
const BACK_FROM_THE_FUTURE = `${CHANGE}("DELETE FROM kysely_migration WHERE name = '9999-later'")`;

function install(version: string) {
  return root.run(
    [
      'dpkg',
      '--force-unsafe-io',
      '--install',
      ...NAMES.map((name) => `/root/${name}_${version}_${architecture()}.deb`),
    ],
    {
      timeoutMs: 120_000,
    },
  );
}

/** The compressed tree of a package: the last member of its archive, behind a header of 60 bytes. */
function filesIn(packages: readonly Built[], name: string): Buffer {
  const bytes = readFileSync(packages.find((each) => each.name === name)!.path);
  let at = '!<arch>\n'.length;
  for (;;) {
    const member = bytes
      .subarray(at, at + 16)
      .toString()
      .trim();
    const length = Number(bytes.subarray(at + 48, at + 58).toString());
    if (member === 'data.tar.zst') return bytes.subarray(at + 60, at + 60 + length);
    at += 60 + length + (length % 2);
  }
}

function architecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch;
}

/** By the words that the package says after its install, with the editor's work done by sed. */
async function configureManager(): Promise<void> {
  await root.sh(`
    install -m 0640 -g antipode-manager /usr/share/antipode/examples/manager.json /etc/antipode/manager.json
    sed -i 's/SITE-NAME/west/; s/NAME-OR-ADDRESS-OF-THIS-HOST/kvm-west.example/' /etc/antipode/manager.json`);
}

/** Every path that a package could leave behind: not what dpkg and useradd keep for themselves, nor what runs. */
async function listing(): Promise<string[]> {
  const { stdout } = await root.sh(`find / -xdev \\( -path /proc -o -path /root -o -path /tmp -o -path /run \
    -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \\) -prune -o -print`);
  return stdout.split('\n').filter((path) => !/^\/etc\/(passwd|group|g?shadow|subuid|subgid)-?$/.test(path));
}
