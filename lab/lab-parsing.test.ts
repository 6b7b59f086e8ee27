import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { checkDirectory, checkSiteNames, labId } from './lab-state.ts';
import { parseBytes } from './parse-bytes.ts';
import { identify, isAlive } from './processes.ts';
import { parseLoss, parseRate } from './wan.ts';

test('rates are bits per second with a decimal prefix', () => {
  assert.equal(parseRate('20mbit'), 20_000_000);
  assert.equal(parseRate('1.5gbit'), 1_500_000_000);
  assert.equal(parseRate('512k'), 512_000);
  assert.equal(parseRate('100000'), 100_000);
  for (const bad of ['', 'fast', '10', '-1mbit', '1tbit', '1 mbit', '1000gbit']) {
    assert.throws(() => parseRate(bad), Failure, bad);
  }
});

test('losses are percentages or ratios', () => {
  assert.equal(parseLoss('2%'), 0.02);
  assert.equal(parseLoss('0.25'), 0.25);
  assert.equal(parseLoss('100%'), 1);
  for (const bad of ['', '2', '101%', '-1%', 'all']) assert.throws(() => parseLoss(bad), Failure, bad);
});

test('amounts of bytes have binary prefixes', () => {
  assert.equal(parseBytes('64M'), 64 * 1024 * 1024);
  assert.equal(parseBytes('2GiB'), 2 * 1024 ** 3);
  assert.equal(parseBytes('4096'), 4096);
  for (const bad of ['', 'M', '1.5G', '-1', '9999999999T'])
    assert.throws(() => parseBytes(bad), Failure, bad);
});

test('names that would not fit an interface, and directories too long for a socket, are refused', () => {
  checkSiteNames(['west', 'east', 'north1']);
  for (const bad of [['West'], ['a-b'], ['elevenchars'], ['west', 'west'], [], ['']]) {
    assert.throws(() => checkSiteNames(bad), Failure, bad.join());
  }
  assert.throws(() => checkDirectory(`/${'a'.repeat(80)}`), Failure);
  assert.throws(() => checkDirectory('/tmp/with space'), Failure);
});

test('two directories have two ids, and one directory always the same', () => {
  assert.equal(labId('/tmp/a/../b'), labId('/tmp/b'));
  assert.notEqual(labId('/tmp/a'), labId('/tmp/b'));
});

test('a process is known by its start as well as by its number', () => {
  const self = identify(process.pid)!;
  assert(isAlive(self));
  assert(!isAlive({ pid: self.pid, start_ticks: self.start_ticks - 1 }));
});
