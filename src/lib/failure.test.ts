/** Failures within other errors: causes, and what `using` makes of two at once. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describe, Failure, failureIn } from './failure.ts';

async function failsTwice(first: Error, later: Error): Promise<unknown> {
  try {
    await using _resource = { [Symbol.asyncDispose]: () => Promise.reject(later) };
    throw first;
  } catch (error) {
    return error;
  }
}

test('of two failures, one while disposing after the other, the first is the reason', async () => {
  const first = new Failure('storage_full', 'write the delta');
  const error = await failsTwice(first, new Failure('storage_io', 'close the delta'));
  assert(error instanceof SuppressedError);
  assert.equal(failureIn(error), first);
  assert.equal(describe(error), 'write the delta');
});

test('a bug counts, whichever of the two it is', async () => {
  const failure = new Failure('storage_io', 'close the delta');
  const bug = new TypeError('undefined is not a function');
  assert.equal(failureIn(await failsTwice(failure, bug)), undefined);
  assert.equal(failureIn(await failsTwice(bug, failure)), undefined);
  assert.match(describe(await failsTwice(failure, bug)), /is not a function/);
});

test('the outermost failure of a chain is found', () => {
  const inner = new Failure('unreachable', 'connect');
  const outer = new Failure('storage_io', 'copy', { cause: new Error('between', { cause: inner }) });
  assert.equal(failureIn(new Error('around', { cause: outer })), outer);
  assert.equal(describe(outer), 'copy: between: connect');
});
