import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLinkLocal, neighbourOf, subnetOf } from './subnet.ts';

test('an address is read with its prefix length, or the usual one', () => {
  assert.deepEqual(subnetOf('10.2.0.5/16'), { address: '10.2.0.5', prefix: 16 });
  assert.deepEqual(subnetOf('10.2.0.5'), { address: '10.2.0.5', prefix: 24 });
  assert.deepEqual(subnetOf('fd00::5'), { address: 'fd00::5', prefix: 64 });
  for (const text of ['10.2.0', '10.2.0.5/33', 'fd00::/129', '', 'x/1'])
    assert.equal(subnetOf(text), undefined);
});

test('a neighbour is the last of the subnet that nobody has', () => {
  const of = (text: string, taken: string[] = []): string | undefined => neighbourOf(subnetOf(text)!, taken);
  assert.equal(of('10.9.0.5/24'), '10.9.0.254');
  assert.equal(of('10.9.0.254/24'), '10.9.0.253');
  assert.equal(of('10.9.0.5/24', ['10.9.0.254', '10.9.0.252']), '10.9.0.253');
  assert.equal(of('10.9.0.5/30'), '10.9.0.6');
  assert.equal(of('10.9.0.6/30', ['10.9.0.5']), undefined);
  assert.equal(of('10.9.0.6/31'), undefined);
  assert.equal(of('10.9.0.6/32'), undefined);
  assert.equal(of('fd00::5/64'), 'fd00:0:0:0:ffff:ffff:ffff:fffe');
  assert.equal(of('fd00::5/126'), 'fd00:0:0:0:0:0:0:6');
  assert.equal(of('fd00::5/126', ['fd00:0::6']), undefined);
});

test('addresses of no network are known', () => {
  for (const address of ['127.0.0.1', '169.254.1.1', 'fe80::1', '::1']) assert(isLinkLocal(address));
  for (const address of ['10.0.0.1', 'fd00::1', '192.168.1.1']) assert(!isLinkLocal(address));
});
