/** Whom connections are shared with. That they are used again is tested with real managers. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { keptConnections } from './kept-connections.ts';

test('connections are shared by those who expect the same manager, until they are old', () => {
  const first = keptConnections('west', {}, 0);
  assert.equal(keptConnections('west', {}, 599_999), first);
  assert.notEqual(keptConnections('east', {}, 1), first);
  const second = keptConnections('west', {}, 600_000);
  assert.notEqual(second, first);
  assert.equal(keptConnections('west', {}, 600_001), second);
});

test('connections of many identities do not gather', () => {
  const first = keptConnections('identity 0', {}, 0);
  for (let count = 1; count <= 64; count++) keptConnections(`identity ${count}`, {}, 0);
  assert.notEqual(keptConnections('identity 0', {}, 0), first);
});
