import assert from 'node:assert/strict';
import { test } from 'node:test';
import { remembered } from './remembered.ts';

test('an answer is computed once, a failure each time, and the oldest answers are forgotten', () => {
  const asked: string[] = [];
  const lengthOf = remembered((text) => {
    asked.push(text);
    if (text === '') throw new Error('nothing');
    return { length: text.length };
  });
  assert.equal(lengthOf('abc'), lengthOf('abc'));
  assert.throws(() => lengthOf(''));
  assert.throws(() => lengthOf(''));
  assert.deepEqual(asked, ['abc', '', '']);
  for (let index = 0; index < 63; index++) lengthOf(`text ${index}`);
  lengthOf('abc');
  assert.equal(asked.filter((text) => text === 'abc').length, 1);
  lengthOf('one more');
  lengthOf('text 0');
  assert.equal(asked.filter((text) => text === 'text 0').length, 2);
  const long = 'x'.repeat(100_000);
  assert.notEqual(lengthOf(long), lengthOf(long));
});
