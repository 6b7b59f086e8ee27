import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConsoleWatch } from './console-watch.ts';
import { Places } from './places.ts';
import { signSources } from './sign-sources.ts';

test('a wanted text is found also when it comes in pieces, and nothing else counts', () => {
  const watch = new ConsoleWatch('login:');
  assert.equal(watch.take('debian 12\nlog'), undefined);
  assert.equal(watch.take('in: '), 'serial port: login:');
});

test('without a wanted text any whole line counts that is not the firmware’s', () => {
  const watch = new ConsoleWatch(null);
  const firmware = '\u001b[2J\u001b[01;01HBdsDxe: loading Boot0001\r\nSeaBIOS (version 1.16)\n\u001b[0m\r\n';
  assert.equal(watch.take(firmware), undefined);
  assert.equal(watch.take('\u001b[1mLinux version'), undefined);
  assert.equal(watch.take(' 6.1\u001b[0m\r\n'), 'serial port: Linux version 6.1');
});

test('of a guest that never stops talking only the end is kept', () => {
  const watch = new ConsoleWatch('never');
  for (let i = 0; i < 100; i++) watch.take('x'.repeat(1000));
  assert.equal(watch.tail.length, 16 * 1024);
});

test('a console that is watched under a signal that has aborted is not waited for', async () => {
  const silent = {
    [Symbol.asyncIterator]: () => ({ next: () => new Promise<never>(() => undefined) }),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
  assert.equal(await new ConsoleWatch(null).read(silent, AbortSignal.abort()), undefined);
});

test('a definition tells by what its VM can give a sign', () => {
  const vm = (devices: string): string => `<domain><devices>${devices}</devices></domain>`;
  assert.deepEqual(signSources(vm('')), { hasSerial: false, hasAgent: false });
  const agent = '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>';
  assert.deepEqual(signSources(vm(agent)), { hasSerial: false, hasAgent: true });
  assert.deepEqual(signSources(vm('<serial type="null"/>')), { hasSerial: false, hasAgent: false });
  assert.deepEqual(signSources(vm('<serial type="pty"/>')), { hasSerial: true, hasAgent: false });
});

test('places are given in the order of asking, and who gives up takes none', async () => {
  const places = new Places(1);
  const order: string[] = [];
  const first = await places.take(AbortSignal.any([]));
  const stop = new AbortController();
  const second = places.take(stop.signal);
  const third = places.take(AbortSignal.any([])).then((place) => {
    order.push('third');
    return place;
  });
  stop.abort(new Error('given up'));
  await assert.rejects(second, /given up/);
  assert.deepEqual(order, []);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  (await third)[Symbol.dispose]();
  assert.deepEqual(order, ['third']);
  (await places.take(AbortSignal.any([])))[Symbol.dispose]();
});
