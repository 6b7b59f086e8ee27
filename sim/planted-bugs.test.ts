import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadWithBug, mutate } from './mutated-graph.ts';
import { PLANTED_BUGS } from './planted-bugs.ts';

for (const { name, seeds, faults } of PLANTED_BUGS) {
  test(`the planted bug ${name} is caught within ${seeds} seeds`, async (context) => {
    const { runSeed } = await loadWithBug(name);
    for (let seed = 1; seed <= seeds; seed++) {
      const { violations } = await runSeed(seed, { faults });
      const [first] = violations;
      if (!first) continue;
      context.diagnostic(`seed ${seed}: ${first.invariant} ${first.what.split('\n')[0]}`);
      return;
    }
    assert.fail(`not caught; try more: ./antipode sim --seeds 1..1000 --bug ${name}`);
  });
}

test('a planted bug whose line is gone, or stands twice, is an error and not a pass', () => {
  const bug = { name: 'none', file: 'src/none.ts', line: 'await sync();', becomes: '', seeds: 1 };
  assert.throws(() => mutate(bug, 'nothing of the kind'), /0 times in src\/none.ts/);
  assert.throws(() => mutate(bug, 'await sync(); await sync();'), /2 times/);
  assert.equal(mutate(bug, 'write(); await sync();'), 'write(); ');
});
