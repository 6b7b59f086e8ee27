/**
 * What is done to the guests of a plan's test, on a real site: they meet on networks of their own and reach nothing
 * else, they are probed there, programs run in them, and nothing stays.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { RecoveryView } from '#/api/recoveries.ts';
import type { GuestTask, Probe } from '#/control/guest-tasks.ts';
import type { FailureReport } from '#/control/reports.ts';
import { createLedger } from './ledger-vm.ts';
import { eventually, TwoSites } from './two-sites.ts';

const MAIN = join(import.meta.dirname, 'guest-task-main.ts');
/** a and b are on one network, c is behind the router. */
const GUESTS = [
  {
    name: 'a',
    address: '10.9.0.5/24',
    gateway: '10.9.0.1',
    network: 'lan-a',
    httpPort: 80,
    ping: '10.9.0.6',
  },
  { name: 'b', address: '10.9.0.6/24', gateway: '10.9.0.1', network: 'lan-a' },
  { name: 'c', address: '10.9.1.7/24', gateway: '10.9.1.1', network: 'lan-b' },
];
const ROUTER = { 'lan-a': '10.9.0.1/24', 'lan-b': '10.9.1.1/24' };
/** The guests share the processors with all that is done to them. */
const QUIET = { intervalMs: 60_000, diskBytes: [1_048_576, 1_048_576] };
/** The bridge of production at east, and its host's address there. */
const BRIDGE = 'virbr0';
const PORT = 'port0';
const NEIGHBOUR = 'neighbour0';

let sites: TwoSites;
let before_: string[];
let production = '';
let number = 0;
const uuids = new Map<string, string>();

before(async () => {
  sites = await TwoSites.up(() => undefined);
  for (const guest of GUESTS) {
    const { name, address, gateway, ...rest } = guest;
    await createLedger(sites.west, {
      name,
      address,
      gateway,
      ...rest,
      ...QUIET,
      hasAgent: true,
      start: false,
    });
    await sites.protect(name, 60_000);
  }
  await Promise.all(GUESTS.map(({ name }) => sites.pointAfter(name, 0)));
  // Another machine on the network of production; without one its bridge carries nothing.
  await sites.east.exec(['ip', 'link', 'add', PORT, 'type', 'veth', 'peer', 'name', NEIGHBOUR]);
  await sites.east.exec(['ip', 'link', 'set', PORT, 'master', BRIDGE, 'up']);
  await sites.east.exec(['ip', 'link', 'set', NEIGHBOUR, 'up']);
  before_ = await networksAtEast();
  const { stdout } = await sites.east.exec(['ip', '-j', '-4', 'address', 'show', 'dev', BRIDGE]);
  production = (JSON.parse(stdout) as { addr_info: { local: string }[] }[])[0]!.addr_info[0]!.local;
});
after(async () => {
  await sites?.[Symbol.asyncDispose]();
});

async function networksAtEast(): Promise<string[]> {
  const networks = await sites.east.virsh(['net-list', '--all', '--name']);
  const spaces = (await sites.east.exec(['ip', 'netns', 'list'])).stdout;
  const links = (await sites.east.exec(['ip', '-o', 'link'])).stdout.match(/^\d+: [^:@]+/gm) ?? [];
  const names = links.map((link) => link.replace(/^\d+: /, ''));
  return [networks, spaces, ...names]
    .flatMap((text) => text.split('\n'))
    .filter((line) => line.trim() !== '');
}

type Wanted<Task = GuestTask> = Task extends GuestTask ? Omit<Task, 'id' | 'vm_uuid' | 'vm_name'> : never;
type Outcome = { result?: Record<string, unknown>; failure?: FailureReport };

type Asked = readonly [name: string, what: Wanted, id?: string];

/** What comes of tasks on guests, by their names, that are carried out at the same time. */
function run(...asked: Asked[]): Promise<Outcome[]> {
  return carryOut([asked]);
}

function inTurn(...asked: Asked[]): Promise<Outcome[]> {
  return carryOut(asked.map((one) => [one]));
}

async function carryOut(groups: Asked[][]): Promise<Outcome[]> {
  const tasks = groups.map((group) =>
    group.map(([name, what, id]) => {
      const vm = { vm_name: `${name}-test`, vm_uuid: uuids.get(name) };
      return { ...what, ...vm, id: id ?? `t${++number}` };
    }),
  );
  const directory = join(sites.east.directory, 'agent', 'recoveries');
  const argv = [process.execPath, '--disable-warning=ExperimentalWarning', MAIN, directory];
  const { stdout } = await sites.east.exec([...argv, JSON.stringify(tasks)], { timeoutMs: 200_000 });
  return JSON.parse(stdout) as Outcome[];
}

const probe = (what: Probe, timeoutMs = 30_000): Wanted => {
  return { kind: 'probe', probe: what, timeout_ms: timeoutMs };
};
const program = (path: string, ...args: string[]): Wanted => {
  return { kind: 'execute', path, arguments: args, timeout_ms: 100_000 };
};

function assertDone(outcomes: readonly Outcome[]): void {
  for (const { failure } of outcomes) assert.equal(failure, undefined);
}

/** What is seen on an interface of east from now on, until it is asked for. */
async function capture(device: string, filter: string): Promise<() => Promise<string>> {
  const argv = ['tcpdump', '-n', '-l', '-p', '--immediate-mode', '-i', device, filter];
  const [command, ...rest] = [...sites.east.enter(), ...argv];
  const child = spawn(command!, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  let seen = '';
  let said = '';
  child.stdout.on('data', (piece: Buffer) => (seen += piece.toString()));
  child.stderr.on('data', (piece: Buffer) => (said += piece.toString()));
  await eventually(`tcpdump listens on ${device}`, () =>
    Promise.resolve(said.includes('listening on') ? true : undefined),
  );
  return async () => {
    const closed = once(child, 'close');
    child.kill('SIGINT');
    await closed;
    return seen;
  };
}

async function settled(id: string, state: RecoveryView['state']): Promise<void> {
  await eventually(`${id} is ${state}`, async () => {
    const view = await sites.api<RecoveryView>(sites.east, 'GET', `/recoveries/${id}`);
    assert(view.state === state || ['running', 'cleaning'].includes(view.state), JSON.stringify(view));
    return view.state === state ? true : undefined;
  });
}

test('guests of a test meet, also through its router, are probed there, and nobody else hears of them', async (t) => {
  const filter = 'net 10.9.0.0/23 or arp net 10.9.0.0/23';
  const captures = await Promise.all(
    [BRIDGE, NEIGHBOUR, 'wan-west'].map((device) => capture(device, filter)),
  );
  const jobs = await Promise.all(
    GUESTS.map(({ name, network }) =>
      sites.api<RecoveryView>(sites.east, 'POST', '/recoveries', {
        vm: name,
        purpose: 'test',
        networks: { default: network },
        test_network: { tag: 'run-1', networks: 'each', router: ROUTER },
      }),
    ),
  );
  await Promise.all(jobs.map(({ id }) => settled(id, 'ready')));

  for (const { name } of GUESTS) {
    uuids.set(name, (await sites.east.virsh(['domuuid', `${name}-test`])).trim());
  }

  await t.test('the probes say what is so', async () => {
    const page: Probe = { kind: 'http', port: 80, path: '/gone' };
    assertDone(await run(...GUESTS.map(({ name }) => [name, probe({ kind: 'agent' })] as const)));
    const [http, ...rest] = await run(
      ['a', probe({ ...page, path: '/' })],
      ['a', probe({ kind: 'tcp', port: 80, address: '10.9.0.5' })],
      ['a', probe({ ...page, status: 404 })],
      ['b', probe({ kind: 'serial', text: 'LEDGER n=1 ' })],
      ['c', probe({ kind: 'script', path: '/bin/test', arguments: ['-d', '/proc'] })],
    );
    assert.equal(http!.result?.['said'], 'http://10.9.0.5:80/ answers with status 200');
    assertDone(rest);
    const failing = await run(
      ['a', probe(page, 100)],
      ['b', probe({ kind: 'tcp', port: 80 }, 100)],
      ['b', probe({ kind: 'serial', text: 'LEDGER torn' }, 100)],
      ['c', probe({ kind: 'script', path: '/bin/false', arguments: [] }, 100)],
    );
    const why = [/status 404/, /ECONNREFUSED/, /the end of what it says/, /status 1/];
    for (const [index, { failure }] of failing.entries()) {
      assert.equal(failure?.code, 'timeout');
      assert.match(failure.hint ?? '', why[index]!);
    }
  });

  await t.test('programs run in guests, with their status and what they say', async () => {
    const endless: Wanted = { kind: 'execute', path: '/bin/sleep', arguments: ['100'], timeout_ms: 1000 };
    const [said, many, no, late] = await run(
      ['b', program('/bin/echo', "it's", '$HOME "here"')],
      ['b', program('/bin/sh', '-c', 'yes | head -c 1000000')],
      ['b', program('/bin/sh', '-c', 'echo no >&2; exit 3')],
      ['b', endless],
    );
    assert.deepEqual(said!.result, { exit_status: 0, output: 'it\'s $HOME "here"\n' });
    assert.equal(String(many!.result?.['output']).length, 65_536);
    assert.equal(no!.failure?.hint, 'It said: no');
    assert.match(no!.failure.message, /ended with status 3/);
    // Kept in the guest and here: whoever is first on a busy machine.
    assert.match(
      late!.failure?.message ?? '',
      /killed, most likely at its time limit|did not end within 1000 ms/,
    );
    // As after a crash of the agent: the program that was begun is looked for, and no other begun.
    const append = program('/bin/sh', '-c', 'echo x >>/tmp/once');
    const cat = program('/bin/cat', '/tmp/once');
    const [begun, again, written] = await inTurn(['b', append, 'once'], ['b', append, 'once'], ['b', cat]);
    assertDone([begun!]);
    assert.equal(again!.failure?.code, 'tool_failed');
    assert.equal(written!.result?.['output'], 'x\n');
  });

  await t.test('they reach each other, and neither production nor its host', async () => {
    const [near, far, out, back] = await run(
      ['a', program('/bin/ping', '-c', '1', '-W', '10', '10.9.0.6')],
      ['a', program('/bin/ping', '-c', '1', '-W', '10', '10.9.1.7')],
      ['a', program('/bin/ping', '-c', '1', '-W', '2', production)],
      ['c', program('/bin/ping', '-c', '1', '-W', '2', production)],
    );
    assertDone([near!, far!]);
    assert.match(out!.failure?.message ?? '', /ended with status 1/);
    assert.match(back!.failure?.message ?? '', /ended with status 1/);
  });

  await t.test('one is paused to make room, and goes on when nobody needs the room any more', async () => {
    const pause: Wanted = { kind: 'suspend' };
    const goOn = (id: string): Wanted => ({ kind: 'resume', suspend_id: id });
    const outcomes = await inTurn(
      ['c', pause, 's1'],
      ['c', pause, 's1'],
      ['c', pause, 's2'],
      ['c', goOn('s1')],
      ['c', goOn('s2')],
      ['c', goOn('s2')],
    );
    assertDone(outcomes);
    const states = outcomes.map(({ result }) => result?.['state']);
    assert.deepEqual(states, ['paused', 'paused', 'paused', 'paused', 'running', 'running']);
    await sites.east.virsh(['suspend', 'c-test']);
    await inTurn(['c', pause, 's3'], ['c', goOn('s3')]);
    assert.equal((await sites.east.virsh(['domstate', 'c-test'])).trim(), 'paused', 'a person has paused it');
    await sites.east.virsh(['resume', 'c-test']);
  });

  await t.test('guests get other addresses, by what they have for it, and their own again', async () => {
    const give = (address: string, gateway4: string): Wanted => {
      const nic = { nic: 0, ipv4: [address], gateway4 };
      const wanted = { kind: 'apply', host_name: 'web-b', addresses: [nic] } as const;
      return { kind: 'customize', wanted: { ...wanted, addresses: [nic] }, timeout_ms: 60_000 };
    };
    const restore: Wanted = { kind: 'customize', wanted: { kind: 'restore' }, timeout_ms: 60_000 };
    const page = (address: string): Wanted => probe({ kind: 'http', port: 80, path: '/', address });
    const seen = program('/bin/sh', '-c', 'hostname; ip -4 address show dev eth0; ip route');
    const plain = await inTurn(
      ['a', give('10.9.0.15/24', '10.9.0.1')],
      ['a', seen],
      ['a', page('10.9.0.15')],
      ['a', restore],
      ['a', page('10.9.0.5')],
      ['a', seen],
    );
    assertDone(plain);
    assert.equal(plain[0]!.result?.['method'], 'ip');
    assert.match(
      String(plain[1]!.result?.['output']),
      /^web-b\n[^]*10\.9\.0\.15\/24[^]*default via 10\.9\.0\.1/,
    );
    assert.doesNotMatch(String(plain[5]!.result?.['output']), /web-b|10\.9\.0\.15/);
    assert.match(String(plain[5]!.result?.['output']), /default via 10\.9\.0\.1/);
    const file =
      'auto eth0\niface eth0 inet static\n  address 10.9.1.7\n  netmask 255.255.255.0\n  gateway 10.9.1.1\n';
    const setUp =
      'cd /; mkdir -p var/run $(printf "etc/network/if-%s.d " pre-up up down post-down); printf "$1" >/etc/network/interfaces';
    const read = program('/bin/cat', '/etc/network/interfaces');
    const byFile = await inTurn(
      ['c', program('/bin/sh', '-c', setUp, 'sh', file)],
      ['c', give('10.9.1.17/24', '10.9.1.1')],
      ['c', seen],
      ['c', read],
      ['c', restore],
      ['c', seen],
      ['c', read],
    );
    assertDone(byFile);
    assert.equal(byFile[1]!.result?.['method'], 'ifupdown');
    assert.match(String(byFile[2]!.result?.['output']), /10\.9\.1\.17\/24[^]*default via 10\.9\.1\.1/);
    assert.match(String(byFile[3]!.result?.['output']), /address 10\.9\.1\.17\n/);
    assert.match(String(byFile[5]!.result?.['output']), /10\.9\.1\.7\/24[^]*default via 10\.9\.1\.1/);
    assert.equal(byFile[6]!.result?.['output'], file);
  });

  // The captures would have seen it: the host itself asks for such an address on the bridge of production.
  const ask = ['ping', '-c', '1', '-W', '1', '-I', BRIDGE, '10.9.0.99'];
  await sites.east.exec(ask, { allowFailure: true });
  const [onBridge, atNeighbour, onWan] = await Promise.all(captures.map((end) => end()));
  for (const seen of [onBridge!, atNeighbour!]) {
    const lines = seen.split('\n').filter((line) => line !== '');
    assert(lines.length > 0, 'the capture sees what is there');
    assert(
      lines.every((line) => line.includes('10.9.0.99')),
      seen,
    );
  }
  assert.equal(onWan!.trim(), '');

  for (const { id } of jobs) await sites.api(sites.east, 'POST', `/recoveries/${id}/cleanup`);
  await Promise.all(jobs.map(({ id }) => settled(id, 'cleaned')));
  assert.deepEqual(await networksAtEast(), before_);
});
