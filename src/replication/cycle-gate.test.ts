/** Who may run a cycle next. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CycleGate } from './cycle-gate.ts';

const forever = new AbortController().signal;

test('cycles that read everything leave a place for deltas', async () => {
  const gate = new CycleGate(2);
  using _first = await gate.enter('whole', 0, forever);
  const order: string[] = [];
  const second = gate.enter('whole', 0, forever).then((place) => (order.push('whole'), place));
  const delta = await gate.enter('delta', 0, forever);
  assert.equal(gate.waitingCount, 1);
  delta[Symbol.dispose]();
  assert.equal(gate.waitingCount, 1);
  _first[Symbol.dispose]();
  using _second = await second;
  assert.deepEqual(order, ['whole']);
});

test('deltas go in the order of their deadlines, before all others', async () => {
  const gate = new CycleGate(2);
  const running = [await gate.enter('delta', 0, forever), await gate.enter('delta', 0, forever)];
  const order: string[] = [];
  const enter = async (name: string, kind: 'delta' | 'whole', deadlineMs: number): Promise<void> => {
    using _place = await gate.enter(kind, deadlineMs, forever);
    order.push(name);
  };
  const all = [enter('whole', 'whole', 1), enter('late', 'delta', 9), enter('early', 'delta', 3)];
  running[0]![Symbol.dispose]();
  await Promise.all(all);
  assert.deepEqual(order, ['early', 'late', 'whole']);
});

test('one that is given up leaves the queue', async () => {
  const gate = new CycleGate(2);
  using _a = await gate.enter('delta', 0, forever);
  using _b = await gate.enter('delta', 0, forever);
  const stop = new AbortController();
  const waiting = gate.enter('delta', 0, stop.signal);
  stop.abort(new Error('stopped'));
  await assert.rejects(waiting, /stopped/);
  assert.equal(gate.waitingCount, 0);
});
