import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytes, moment, parseSpan, plural, setSpan, span } from './format.ts';

test('spans are said in at most two units', () => {
  const said = [0, 4210, 59_999, 185_000, 7_800_000, 446_400_000].map(span);
  assert.deepEqual(said, ['0.0 s', '4.2 s', '59 s', '3 min 5 s', '2 h 10 min', '5 d 4 h']);
  assert.equal(span(-1500), '-1.5 s');
  assert.equal(setSpan(5000), '5 s');
  assert.equal(setSpan(1500), '1.5 s');
});

test('typed spans are understood, and what is none is not guessed', () => {
  const typed = { '5s': 5000, '15 min': 900_000, '1.5 h': 5_400_000, '2d': 172_800_000, '250ms': 250 };
  for (const [text, ms] of Object.entries(typed)) assert.equal(parseSpan(text), ms, text);
  for (const text of ['', '5', 's', '-5s', '5 parsecs', '1e3s', '99999999999999999999d']) {
    assert.equal(parseSpan(text), undefined, text);
  }
});

test('bytes have three digits and the unit that suits them', () => {
  assert.deepEqual([0, 512, 2048, 15 * 1024 ** 2, 3 * 1024 ** 4].map(bytes), [
    '0 B',
    '512 B',
    '2.00 KiB',
    '15.0 MiB',
    '3.00 TiB',
  ]);
});

test('a moment of another day carries its day', () => {
  const nowMs = new Date(2026, 10, 23, 12).getTime();
  assert.match(moment(nowMs - 1000, nowMs), /^11:59:59$/);
  assert.match(moment(nowMs - 86_400_000, nowMs), /^22 Nov 12:00:00$/);
  assert.equal(plural(1, 'VM'), '1 VM');
  assert.equal(plural(10_000, 'VM'), '10,000 VMs');
});
