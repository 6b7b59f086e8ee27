import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { failureIn } from '#/lib/failure.ts';
import { fullPlan, RUN_ID, Stage } from '#/manager/runs/engine-fixture.ts';
import type { RunKind, RunState } from '#/api/runs.ts';
import { changeSteps } from '#/manager/store/run-store.ts';

/** The table is the page's own; only what it exports is told here, for it is checked with the page's settings. */
type Table = {
  RUN_TABLE: Record<RunKind, Partial<Record<RunState, readonly string[]>>>;
  whyNotMove: (move: string, run: object) => string | undefined;
  whyNotSkip: (run: object, step: object) => string | undefined;
};
const table = (await import(join(import.meta.dirname, '../web/src/shared/run-moves.ts'))) as Table;

type Step = { key: string; state: string; phase: string };

/** What the manager says: it does it, leaves everything as it was, or refuses. */
async function ask(
  stage: Stage,
  move: 'cancel' | 'cleanup' | 'resume',
): Promise<'done' | 'nothing' | 'refused'> {
  const before = (await stage.run()).state;
  try {
    const call = { cancel: 'cancel', cleanup: 'cleanUp', resume: 'resume' } as const;
    await stage.runs[call[move]](RUN_ID, 'alice');
  } catch (error) {
    assert(failureIn(error) !== undefined, String(error));
    return 'refused';
  }
  return (await stage.run()).state === before ? 'nothing' : 'done';
}

async function put(stage: Stage, state: RunState, upKey?: string): Promise<void> {
  await stage.db.updateTable('runs').set({ state }).execute();
  await stage.db
    .updateTable('run_steps')
    .set({ state: 'waiting', attempts: 0, tries: 0, answer: null, failure: null })
    .execute();
  if (upKey === undefined) return;
  await stage.db.updateTable('run_steps').set({ attempts: 1 }).where('key', '=', upKey).execute();
}

for (const [kind, states] of Object.entries(table.RUN_TABLE) as [RunKind, object][]) {
  test(`the page offers to cancel, clean up and resume a ${kind} in those states in which the manager does it`, async () => {
    await using stage = await Stage.open(fullPlan(kind));
    const recover = (await stage.steps()).find(({ body }) => body.kind === 'recover')!;
    let offered = 0;
    for (const state of Object.keys(states) as RunState[]) {
      for (const move of ['cancel', 'cleanup', 'resume'] as const) {
        for (const upKey of [undefined, recover.key]) {
          await put(stage, state, upKey);
          const whyNot = table.whyNotMove(move, await stage.runs.show(RUN_ID));
          const answer = await ask(stage, move);
          const what = `${move} while ${state}, ${upKey === undefined ? 'nothing' : 'a VM'} up: ${whyNot}`;
          if (whyNot === undefined) offered++;
          if (whyNot === undefined) assert.equal(answer, 'done', what);
          else assert.notEqual(answer, 'done', what);
        }
      }
    }
    assert(offered > 3);
  });
}

test('the page offers to resume what failed in its cleanup as little as the manager does it', async () => {
  await using stage = await Stage.open(fullPlan('test'));
  await put(stage, 'failed');
  const undo = (await stage.steps()).find(({ phase }) => phase === 'undo')!;
  await stage.db.updateTable('run_steps').set({ attempts: 1 }).where('key', '=', undo.key).execute();
  assert.match(table.whyNotMove('resume', await stage.runs.show(RUN_ID))!, /being undone/);
  assert.equal(await ask(stage, 'resume'), 'refused');
});

test('the page offers to skip those failed steps that the manager skips', async () => {
  for (const kind of ['disaster', 'failback'] as const) {
    await using stage = await Stage.open(fullPlan(kind));
    for (const state of ['running', 'failed'] as const) {
      await put(stage, state);
      const keys = ((await stage.runs.show(RUN_ID)).steps as Step[]).map(({ key }) => key);
      const counts = { offered: 0, kept: 0 };
      for (const key of keys) {
        await changeSteps(stage.db, RUN_ID, { keys: [key] }, { state: 'failed' });
        const shown = await stage.runs.show(RUN_ID);
        const step = shown.steps!.find((known) => known.key === key)!;
        const whyNot = table.whyNotSkip(shown, step);
        const refused = await stage.runs.skip(RUN_ID, key, 'to see', 'alice').then(
          () => false,
          (error: unknown) => failureIn(error) !== undefined,
        );
        assert.equal(whyNot !== undefined, refused, `${kind} ${state} ${step.name}: ${whyNot}`);
        counts[refused ? 'kept' : 'offered']++;
      }
      assert(counts.kept > 0);
      assert.equal(counts.offered > 0, state === 'failed');
    }
  }
});
