import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figure, interleave, median, medianRatio } from './figure.ts';

test('the median of an even count lies between the middle two', () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([9, 1, 5]), 5);
  assert.throws(() => median([]), RangeError);
});

test('a ratio compares values of the same round, so a slow round harms neither side', () => {
  assert.equal(medianRatio([1, 10, 2], [2, 20, 4]), 0.5);
});

test('a figure is met when it is at or below its goal', () => {
  assert.deepEqual(figure('a', 1.5, 's', 1.5), { name: 'a', value: 1.5, unit: 's', goal: 1.5, met: true });
  assert.equal(figure('a', 1.6, 's', 1.5).met, false);
  assert.equal(figure('a', 1.6, 's').met, null);
});

test('subjects run in turn', async () => {
  const order: string[] = [];
  const subject = (name: string) => async (): Promise<number> => order.push(name);
  const values = await interleave({ a: subject('a'), b: subject('b') }, { rounds: 2, say: () => undefined });
  assert.deepEqual(order, ['a', 'b', 'a', 'b']);
  assert.deepEqual(values, { a: [1, 3], b: [2, 4] });
});
