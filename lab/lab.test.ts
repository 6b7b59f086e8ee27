import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { run } from './command.ts';
import { labId, networkPrefix } from './lab-state.ts';
import { Lab } from './lab.ts';
import { createLedger, ledgerDiskPaths, serialLog, waitForText } from './ledger-vm.ts';
import { readLedgerFiles } from './ledger-reader.ts';
import { listNetworks, networkPath } from './namespace.ts';
import { isAlive, processesInNetwork, signalProcess, waitForDeath } from './processes.ts';
import { startPrograms } from './programs.ts';

assert.equal(process.getuid?.(), 0, 'these tests make network namespaces and need root');

let directory: string;
let lab: Lab;

before(async () => {
  directory = await mkdtemp('/tmp/antipode-lab-');
  await rm(directory, { recursive: true });
  lab = await Lab.up({ directory, sites: ['west', 'east'], bare: true });
});

after(async () => {
  await Lab.down(directory);
});

test('two sites have libvirt daemons that know nothing of each other', async () => {
  const [west, east] = [lab.site('west'), lab.site('east')];
  await createLedger(west, { name: 'alone', start: false });
  assert.match(await west.virsh(['list', '--all', '--name']), /alone/);
  assert.doesNotMatch(await east.virsh(['list', '--all', '--name']), /alone/);
  const uuid = async (site: typeof west) =>
    /<uuid>(.*)<\/uuid>/.exec(await site.virsh(['capabilities']))?.[1];
  assert.notEqual(await uuid(west), await uuid(east));
  await west.virsh(['undefine', 'alone']);
});

const pings = async (): Promise<boolean> => {
  const ping = ['ping', '-c', '1', '-W', '1', lab.site('east').address];
  return (await lab.site('west').exec(ping, { allowFailure: true })).code === 0;
};

test('a link that is cut passes nothing, and everything again once it is restored', async () => {
  assert(await pings());
  await lab.cut('west', 'east');
  assert(!(await pings()));
  await lab.restore('east', 'west');
  assert(await pings());
});

test('a link that loses every packet is as good as cut, and restoring it ends the loss', async () => {
  await lab.limit('west', 'east', { lossRatio: 1 });
  assert(!(await pings()));
  await lab.restore('west', 'east');
  assert(await pings());
});

test('a limited link takes as long as its rate says', async () => {
  await lab.limit('west', 'east', { bitsPerSecond: 8_000_000 });
  const east = lab.site('east');
  const receiver = east.exec([process.execPath, '-e', RECEIVE, east.address, String(MEGABYTE)]);
  const elapsedMs = Number(
    (await lab.site('west').exec([process.execPath, '-e', SEND, east.address])).stdout,
  );
  await receiver;
  await lab.restore('west', 'east');
  // 1 MiB at 1 MB/s, less the bucket.
  assert(elapsedMs > 800 && elapsedMs < 10_000, `took ${elapsedMs} ms`);
});

const MEGABYTE = 1024 * 1024;
/** Answers once all bytes are there. */
const RECEIVE = `let left = Number(process.argv[2]);
require('node:net').createServer((socket) => socket.on('data', (part) => {
  if ((left -= part.length) <= 0) socket.end('all', () => process.exit());
})).listen(4000, process.argv[1]);`;
/** Prints the milliseconds from the first byte to the answer; tries again until somebody listens. */
const SEND = `const dial = () => {
  const socket = require('node:net').connect(4000, process.argv[1], () => {
    const start = performance.now();
    socket.write(Buffer.alloc(${MEGABYTE}));
    socket.on('data', () => { console.log(performance.now() - start); process.exit(); });
  });
  socket.on('error', () => setTimeout(dial, 20));
};
dial();`;

test('ledger counts, survives kill -9 of its QEMU, and its disks hold what it said', async () => {
  const site = lab.site('west');
  const log = serialLog(site, 'ledger');
  await createLedger(site, { name: 'ledger', intervalMs: 20 });
  await waitForText(log, /LEDGER found A=0 B=0 good/);
  await waitForText(log, /LEDGER n=10 /);
  await lab.kill('west', 'vm/ledger');
  const said = Number(/LEDGER n=(\d+) [^\n]*\n(?![^]*LEDGER n=)/.exec(readFileSync(log, 'latin1'))?.[1]);
  const found = await exportAndRead(ledgerDiskPaths(site, 'ledger'));
  assert.equal(found.verdict, 'good');
  assert(found.b.last!.number >= said, `said ${said}, disk B has ${found.b.last?.number}`);

  const offset = statSync(log).size;
  await untilShutOff('ledger');
  await site.virsh(['start', 'ledger']);
  const [, a, b] = await waitForText(log, /LEDGER found A=(\d+) B=(\d+) good/, { offset });
  assert.deepEqual([Number(a), Number(b)], [found.a.last?.number, found.b.last?.number]);
  await waitForText(log, new RegExp(`LEDGER n=${Number(a) + 3} `), { offset });

  await site.virsh(['shutdown', 'ledger', '--mode', 'acpi']);
  await waitForText(log, /LEDGER shutdown n=\d+/, { offset });
  await untilShutOff('ledger');
  await site.virsh(['undefine', 'ledger']);
});

async function exportAndRead(paths: readonly string[]) {
  const raw = paths.map((path) => `${path}.raw`);
  for (const [index, path] of paths.entries())
    await run(['qemu-img', 'convert', '-O', 'raw', path, raw[index]!]);
  return readLedgerFiles(raw[0]!, raw[1]!);
}

/** libvirt's own event is the only thing to wait for; its state says when it has seen the end of QEMU. */
async function untilShutOff(vm: string): Promise<void> {
  for (let look = 0; look < 500; look++) {
    if ((await lab.site('west').virsh(['domstate', vm])).trim() === 'shut off') return;
    await systemClock.sleep(20);
  }
  assert.fail(`${vm} does not shut off`);
}

test('a killed site comes back with its files and without its processes of before', async () => {
  const site = lab.site('east');
  await createLedger(site, { name: 'victim' });
  const before = processesInNetwork(networkPath(site.network));
  assert(before.length >= 4, 'holder, virtlogd, libvirtd and QEMU at least');
  await lab.killSite('east');
  assert.deepEqual(before.filter(isAlive), []);
  await assert.rejects(site.virsh(['list']), (error) => hasCode(error, 'unreachable'));
  await lab.start('east');
  assert.equal((await site.virsh(['domstate', 'victim'])).trim(), 'shut off');
  assert(await pings());
});

test('the gateway leads from this machine into the site, and ends with it', async () => {
  const site = lab.site('east');
  const server = `require('node:http').createServer((_, reply) => reply.end('inside'))`;
  const serve = `${server}.listen(7480, '${site.address}', () => ${READY});`;
  const readyFile = join(directory, 'http.ready');
  await site.startProgram('http', [process.execPath, '-e', serve, readyFile], { readyFile });
  await startPrograms([site], { say: () => undefined, save: () => undefined, only: 'gateway' });
  const url = `http://127.0.0.1:${site.state.gateway_port}/`;
  assert.equal(await (await fetch(url)).text(), 'inside');
  const gateway = site.process('gateway')!;
  signalProcess(gateway, 'SIGKILL');
  await waitForDeath(gateway);
  await assert.rejects(fetch(url));
});

const READY = "require('node:fs').writeFileSync(process.argv[1], '')";

test('libvirtd alone can be killed and started while its VM runs on', async () => {
  const site = lab.site('east');
  await site.virsh(['start', 'victim']);
  const qemu = site.qemuProcess('victim')!;
  await lab.kill('east', 'libvirtd');
  await lab.start('east', 'libvirtd');
  assert(isAlive(qemu));
  assert.equal((await site.virsh(['domstate', 'victim'])).trim(), 'running');
});

test('down after kill -9 of up leaves no process, namespace or file, and other labs alone', async () => {
  const other = await mkdtemp('/tmp/antipode-lab-');
  rmSync(other, { recursive: true });
  const main = join(import.meta.dirname, 'main.ts');
  const up = spawn(process.execPath, [main, 'up', '--bare'], {
    env: { ...process.env, ANTIPODE_LAB: other },
    stdio: 'ignore',
  });
  // As soon as the first namespace is there, in the middle of everything.
  const prefix = networkPrefix(labId(other));
  while ((await listNetworks(prefix)).length === 0) await systemClock.sleep(5);
  const ended = new Promise((resolve) => up.on('exit', resolve));
  up.kill('SIGKILL');
  await ended;
  const networks = await listNetworks(prefix);
  assert(await Lab.down(other));
  for (const network of networks) assert(!existsSync(networkPath(network)));
  assert.deepEqual(await listNetworks(prefix), []);
  assert(!existsSync(other));
  assert.deepEqual(mentions(other), []);
  assert(!(await Lab.down(other)), 'there is nothing left to remove');
  assert(lab.site('west').process('libvirtd') !== undefined);
});

/** Processes whose command line or mounts mention the path. */
function mentions(path: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    return ['cmdline', 'mounts'].some((file) => {
      try {
        return readFileSync(`/proc/${pid}/${file}`, 'latin1').includes(path);
      } catch {
        return false;
      }
    });
  });
}

test('a directory that is no lab is neither used nor removed', async () => {
  const foreign = await mkdtemp('/tmp/antipode-lab-');
  mkdirSync(join(foreign, 'sites'));
  await assert.rejects(Lab.up({ directory: foreign, sites: ['west'], bare: true }), (error) =>
    hasCode(error, 'already_exists'),
  );
  assert(!(await Lab.down(foreign)));
  assert(existsSync(join(foreign, 'sites')));
  rmSync(foreign, { recursive: true });
});

test('a lab that is up is not silently turned into another', async () => {
  await assert.rejects(Lab.up({ directory, sites: ['west', 'north'], bare: true }), (error) =>
    hasCode(error, 'conflict'),
  );
});
