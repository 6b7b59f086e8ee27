import assert from 'node:assert/strict';
import { test } from 'node:test';
import { integerBelow, SeededRandom } from '#/lib/random.ts';
import { DeltaChanges, touchedNodes } from './delta-changes.ts';

test('of blocks that came more than once, as data or as zeroes, what came last counts', () => {
  const seed = Date.now() % 2 ** 31;
  const random = new SeededRandom(seed);
  for (let round = 0; round < 200; round++) {
    const changes = new DeltaChanges();
    const model = new Map<number, number>();
    for (let offset = 1; offset <= 12; offset++) {
      const first = integerBelow(random, 700);
      const count = 1 + integerBelow(random, random.next() < 0.5 ? 20 : 400);
      if (random.next() < 0.5) {
        changes.addZeros([{ first, count }]);
        for (let i = 0; i < count; i++) model.set(first + i, 0);
      } else {
        const some = Math.min(count, 64);
        changes.addData([{ first, count: some }], new Uint8Array(some * 16).fill(offset), offset);
        for (let i = 0; i < some; i++) model.set(first + i, offset);
      }
    }
    const inOrder = changes.inOrder();
    const found = new Map<number, number>();
    for (const [i, block] of inOrder.locations.blocks.entries()) {
      found.set(block, inOrder.locations.offsets[i]!);
      assert.equal(inOrder.digests[i * 16], inOrder.locations.offsets[i]);
    }
    for (const [i, first] of inOrder.zeros.first.entries()) {
      for (let block = first; block < first + inOrder.zeros.count[i]!; block++) {
        assert.ok(!found.has(block), `seed ${seed}`);
        found.set(block, 0);
      }
    }
    const sorted = (map: Map<number, number>): [number, number][] => [...map].sort(([a], [b]) => a - b);
    assert.deepEqual(sorted(found), sorted(model), `seed ${seed}`);
    const nodes = [...touchedNodes(inOrder)].map(({ node }) => node);
    const expected = [...new Set([...model.keys()].map((block) => Math.floor(block / 256)))].sort(
      (a, b) => a - b,
    );
    assert.deepEqual(nodes, expected, `seed ${seed}`);
  }
});
