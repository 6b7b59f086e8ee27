import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cycleIn } from './plan-order.ts';

const order = (text: string) =>
  text.split(' ').map((part) => {
    const [name = '', needs = ''] = part.split('<');
    return { name, dependsOn: needs === '' ? [] : needs.split(',') };
  });

test('VMs that wait for each other are named in order, also behind others, and one that waits for itself', () => {
  assert.deepEqual(cycleIn(order('a<b b<c c<a')), ['a', 'b', 'c', 'a']);
  assert.deepEqual(cycleIn(order('z<a a<b b<a')), ['a', 'b', 'a']);
  assert.deepEqual(cycleIn(order('a<a')), ['a', 'a']);
});

test('what joins again is no cycle, nor is a VM that is not in the plan', () => {
  assert.equal(cycleIn(order('a b<a c<a d<b,c')), undefined);
  assert.equal(cycleIn(order('a<gone')), undefined);
});

test('a chain as long as a plan may be is looked through', () => {
  const chain = Array.from({ length: 10_000 }, (_, at) => ({ name: `${at}`, dependsOn: [`${at + 1}`] }));
  assert.equal(cycleIn(chain), undefined);
  assert.equal(cycleIn([...chain, { name: '10000', dependsOn: ['0'] }])!.length, 10_002);
});
