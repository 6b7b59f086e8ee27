/**
 * The tasks of a handover on a real host: real libvirtd, real QEMU. The guest is one that hears no power button, and
 * whose agent never answers; replication is whatever the test says.
 */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { ReplicationReport } from '#/control/reports.ts';
import { StepLog } from '#/agent/step-log.ts';
import { systemClock as clock } from '#/lib/system-clock.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { Libvirt } from '#/libvirt/libvirt.ts';
import type { CycleResult } from '#/replication/cycle.ts';
import { makeEchoGuest } from '#test/echo-guest.ts';
import { startPrivateLibvirtd, type PrivateLibvirtd } from '#test/private-libvirtd.ts';
import type { HandoverContext, Replication } from './handover-context.ts';
import { HandoverStates } from './handover-state.ts';
import { runHandover } from './run-handover.ts';

const ROOT = 'ab'.repeat(16);
const CYCLE = {
  point: { sequence: 7, stamp: 'cd'.repeat(16) },
  momentMs: 1000,
  disks: [{ key: 'vda', bytes: 4096 }],
  roots: [ROOT],
  consistency: 'off',
} as CycleResult;
const signal = new AbortController().signal;

let daemon: PrivateLibvirtd;
let libvirt: Libvirt;
let domain: Domain;
let directory: string;
let states: HandoverStates;
let count = 0;

before(async () => {
  daemon = await startPrivateLibvirtd();
  libvirt = await Libvirt.connect({ socketPath: daemon.socketPath });
  domain = await libvirt.defineDomain((await makeEchoGuest(daemon, 'echo')).xml);
  directory = await mkdtemp(join(tmpdir(), 'antipode-handover-'));
  states = new HandoverStates(directory);
});
after(async () => {
  await libvirt?.[Symbol.asyncDispose]();
  await daemon?.[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});
/** Running, with autostart. */
beforeEach(async () => {
  count++;
  if ((await domain.getState()).state !== 'running') await domain.start();
  await domain.setAutostart(true);
});

function context(replication: Partial<Replication> = {}): HandoverContext {
  const steps = new StepLog(clock, () => undefined);
  const none: Replication = {
    report: () => ({ failure: null, progress: null }) as ReplicationReport,
    nextCycle: async () => CYCLE,
  };
  return { libvirt, clock, states, replication: { ...none, ...replication }, steps };
}

const vm = () => ({ vm_uuid: domain.uuid, vm_name: 'echo' });

function shutDown(mode: 'guest' | 'power_off', timeoutMs = 60_000, at = context()) {
  const task = { ...vm(), id: `shut-${count}`, kind: 'shut_down', mode, timeout_ms: timeoutMs } as const;
  return runHandover(task, at, signal);
}

function finalCycle(at = context()) {
  const task = { ...vm(), id: `last-${count}`, kind: 'final_cycle', replica_id: 'r' } as const;
  return runHandover({ ...task, shut_down_task_id: `shut-${count}` }, at, signal);
}

function startAgain(shutDownTask = `shut-${count}`) {
  const task = { ...vm(), id: `start-${count}`, kind: 'start_again' } as const;
  return runHandover({ ...task, shut_down_task_id: shutDownTask }, context(), signal);
}

async function stands(): Promise<[string, boolean]> {
  return [(await domain.getState()).state, await domain.isAutostart()];
}

test('a guest that does not follow runs on when its time is up, and nothing else of it has changed', async () => {
  const at = context();
  await assert.rejects(shutDown('guest', 6000, at), {
    code: 'timeout',
    message: /has not shut down within 6 s, although it was asked 2 times; it runs on/,
  });
  assert.deepEqual(await stands(), ['running', true]);
  assert.match(at.steps.steps.at(-1)?.note ?? '', /runs on/);
  await assert.rejects(finalCycle(), { code: 'conflict', message: /was not shut down/ });
  assert.deepEqual(await startAgain(), { started: false, vm_state: 'running' });
});

test('a guest that shuts down only after its time was up is started again', async () => {
  await assert.rejects(shutDown('guest', 2000), { code: 'timeout' });
  const back = startAgain();
  await domain.destroy();
  assert.deepEqual(await back, { started: true, vm_state: 'running' });
  assert.deepEqual(await stands(), ['running', true]);
});

test('a VM that is powered off stays off until it is started again, with its autostart as it was', async () => {
  const done = await shutDown('power_off');
  assert.deepEqual([done['was_active'], done['autostart']], [true, true]);
  assert.deepEqual(await stands(), ['shutoff', false]);
  assert.deepEqual(await shutDown('power_off'), done, 'asked again it answers the same');
  const point = { sequence: 7, stamp: 'cd'.repeat(16), moment_ms: 1000, disks: [{ key: 'vda', root: ROOT }] };
  assert.deepEqual(await finalCycle(), point);
  assert.deepEqual(await startAgain('shut-of-another'), { started: false, vm_state: null });
  assert.deepEqual(await stands(), ['shutoff', false]);
  assert.deepEqual(await startAgain(), { started: true, vm_state: 'running' });
  assert.deepEqual(await stands(), ['running', true]);
  await domain.destroy();
  assert.deepEqual(
    await startAgain(),
    { started: false, vm_state: null },
    'it is its owner who ended it now',
  );
});

test('one that was off is left off, and has its autostart again', async () => {
  await domain.destroy();
  assert.equal((await shutDown('guest'))['was_active'], false);
  assert.deepEqual(await stands(), ['shutoff', false]);
  assert.deepEqual(await startAgain(), { started: false, vm_state: 'shutoff' });
  assert.deepEqual(await stands(), ['shutoff', true]);
});

test('a VM that is paused is not waited for to shut itself down', async () => {
  await domain.suspend();
  await assert.rejects(shutDown('guest'), { code: 'conflict', hint: /virsh resume echo/ });
  await domain.resume();
});

test('one that somebody starts has no last cycle, before it and under it', async () => {
  await shutDown('power_off');
  const lost = Promise.withResolvers<never>();
  lost.promise.catch(() => undefined);
  const nextCycle = async (_: string, stop: AbortSignal): Promise<never> => {
    stop.addEventListener('abort', () => lost.reject(stop.reason));
    await domain.start();
    return lost.promise;
  };
  const started = { code: 'conflict', message: /started by somebody after it had been shut down/ };
  await assert.rejects(finalCycle(context({ nextCycle })), started);
  await assert.rejects(finalCycle(), started);
  await assert.rejects(shutDown('power_off'), { code: 'conflict', message: /started by somebody since/ });
  assert.deepEqual(await startAgain(), { started: false, vm_state: 'running' });
  assert.deepEqual(await stands(), ['running', true]);
});

test('one that is saved to a file is refused: its memory would be lost', async () => {
  await daemon.run('virsh', ['-q', 'managedsave', 'echo']);
  await assert.rejects(shutDown('guest'), { code: 'conflict', hint: /managedsave-remove/ });
  await daemon.run('virsh', ['-q', 'managedsave-remove', 'echo']);
});
