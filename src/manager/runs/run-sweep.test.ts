/**
 * The generic tests of runs: every kind of plan with every step carried out twice, with a crash after every record, and
 * with a cancel at every record. Whatever happens, the end is the same.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { TestPostgresql } from '#/manager/store/postgresql-fixture.ts';
import { endOf, fullPlan, isSettled, RUN_ID, Stage } from './engine-fixture.ts';

const KINDS = ['test', 'migration', 'disaster', 'failback'] as const;
/** More records than any of these runs makes. */
const RECORDS_MAX = 200;

let cluster: TestPostgresql;
before(async () => {
  cluster = await TestPostgresql.start();
});
after(() => cluster[Symbol.asyncDispose]());

const AT_END = {
  test: { state: 'ready', recovered: ['database-test test ready', 'web-test test ready'] },
  migration: { state: 'done', recovered: ['database recovery done', 'web recovery done'] },
  disaster: { state: 'done', recovered: ['database recovery done', 'web recovery done'] },
  failback: { state: 'done', recovered: ['database recovery done', 'web recovery done'] },
};

for (const kind of KINDS) {
  test(`${kind}: a run that nothing disturbs comes to its end`, async () => {
    const end = (await endOf(fullPlan(kind))) as {
      state: string;
      world: { recovered: string[]; atSource: string[] };
    };
    assert.equal(end.state, AT_END[kind].state);
    assert.deepEqual(end.world.recovered, AT_END[kind].recovered);
    assert.deepEqual(end.world.atSource, kind === 'test' ? ['database', 'web'] : []);
  });

  test(`${kind}: with every step carried out twice the end is the same`, async () => {
    await using stage = await Stage.open(fullPlan(kind));
    stage.repeat();
    await stage.drive(stage.engine());
    assert.deepEqual(await stage.end(), await endOf(fullPlan(kind)));
    if (kind !== 'test') return;
    await stage.runs.cleanUp(RUN_ID, 'test');
    await stage.drive(stage.engine(), ({ state }) => state === 'cleaned');
    assert.deepEqual(stage.world.state(), { atSource: ['database', 'web'], recovered: [], suspended: [] });
  });

  for (const [database, every, atLeast] of [
    ['SQLite', 1, 20],
    ['PostgreSQL', 9, 3],
  ] as const) {
    const when = every === 1 ? 'every record' : `every ${every}th record`;
    test(`${kind}: a manager on ${database} that dies after ${when} is followed by one that goes on to the same end`, async () => {
      const expected = await endOf(fullPlan(kind));
      let crashes = 0;
      for (let records = 1; records < RECORDS_MAX; records += every) {
        await using stage = await Stage.open(
          fullPlan(kind),
          every === 1 ? undefined : await cluster.database(),
        );
        const isAlive = await stage.drive(stage.engine({ recordsLeft: records }));
        if (isAlive) break;
        crashes++;
        assert.deepEqual(stage.world.twice(), [], `after ${records} records`);
        await stage.drive(stage.engine());
        assert.deepEqual(await stage.end(), expected, `crashed after ${records} records`);
      }
      assert(crashes >= atLeast, `${crashes} crashes`);
    });
  }

  test(`${kind}: a cleanup or a take-back that is crashed after every record comes to the same end`, async () => {
    if (kind === 'disaster') return;
    for (let records = 1; records < RECORDS_MAX; records++) {
      await using stage = await Stage.open(fullPlan(kind));
      // A migration is taken back on its own once a source cannot be brought up to date.
      if (kind !== 'test') stage.world.trouble.broken.add('last_cycle:database');
      else await stage.drive(stage.engine());
      if (kind === 'test') await stage.runs.cancel(RUN_ID, 'test');
      const isAlive = await stage.drive(
        stage.engine({ recordsLeft: records }),
        ({ state }) => state === 'cleaned',
      );
      if (!isAlive) await stage.drive(stage.engine(), ({ state }) => state === 'cleaned');
      assert.equal((await stage.run()).state, 'cleaned', `after ${records} records`);
      const clean = { atSource: ['database', 'web'], recovered: [], suspended: [] };
      assert.deepEqual(stage.world.state(), clean, `after ${records} records`);
      if (isAlive) break;
    }
  });

  test(`${kind}: a cancel at every record has its defined result`, async () => {
    const expected = await endOf(fullPlan(kind));
    for (let records = 1; records < RECORDS_MAX; records++) {
      await using stage = await Stage.open(fullPlan(kind));
      const isAlive = await stage.drive(stage.engine({ recordsLeft: records }));
      if (isAlive) break;
      const hint = `after ${records} records`;
      const hasRecovered = (await stage.steps()).some(
        ({ body, attempts }) => body.kind === 'recover' && attempts > 0,
      );
      if (kind === 'disaster') {
        if ((await stage.run()).state === 'done') continue;
        const jobs = stage.world.jobs.size;
        await stage.runs.cancel(RUN_ID, 'test');
        await stage.drive(stage.engine());
        assert.equal((await stage.run()).state, 'cancelled', hint);
        assert.equal(stage.world.jobs.size, jobs, `${hint}: nothing more was brought up`);
        await stage.runs.resume(RUN_ID, 'test');
        await stage.drive(stage.engine());
        assert.deepEqual(await stage.end(), expected, hint);
      } else if (kind !== 'test' && hasRecovered) {
        if ((await stage.run()).state === 'done') continue;
        await assert.rejects(stage.runs.cancel(RUN_ID, 'test'), {
          code: 'conflict',
          message: /only goes forward/,
        });
        await stage.drive(stage.engine());
        assert.deepEqual(await stage.end(), expected, hint);
      } else {
        await stage.runs.cancel(RUN_ID, 'test');
        await stage.drive(stage.engine(), ({ state }) => state === 'cleaned');
        const clean = { atSource: ['database', 'web'], recovered: [], suspended: [] };
        assert.deepEqual(stage.world.state(), clean, hint);
        assert(
          (await stage.steps()).every(({ state }) => !['running', 'waiting'].includes(state)),
          hint,
        );
        await assert.rejects(stage.runs.resume(RUN_ID, 'test'), { code: 'conflict' });
      }
    }
  });
}

test('two managers on one PostgreSQL never both advance a run, and one follows the other', async () => {
  const url = await cluster.database();
  await using stage = await Stage.open(fullPlan('disaster'), url);
  await using other = await Stage.open(fullPlan('test')).then(async (unused) => {
    await unused[Symbol.asyncDispose]();
    const { openDatabase } = await import('#/manager/store/database.ts');
    const { silentLog } = await import('#/lib/log.ts');
    const db = await openDatabase(url, silentLog);
    return { db, [Symbol.asyncDispose]: () => db.destroy() };
  });
  const first = stage.engine({ managerId: 'one' });
  const second = stage.engine({ managerId: 'two', db: other.db });
  const holders = new Set<string>();
  for (let round = 0; round < 6; round++) {
    await Promise.all([first.advance(), second.advance()]);
    await Promise.all([first.idle(), second.idle()]);
    holders.add((await stage.run()).lease.holder!.split(' ')[0]!);
  }
  assert.equal(holders.size, 1, 'one of them has the lease');
  const calls = stage.world.story.length;
  assert.equal(new Set(stage.world.story).size, calls, 'nothing was done twice');
  const [winner] = holders;
  const { number } = (await stage.run()).lease;
  // Whoever had it is gone; the other one waits for the lease to end, and goes on.
  const heir = winner === 'one' ? second : first;
  await heir.advance();
  assert.equal((await stage.run()).lease.number, number);
  await stage.drive(heir);
  assert(isSettled(await stage.run()));
  assert.equal((await stage.run()).lease.number, number + 1);
  assert.deepEqual(stage.world.state(), ((await endOf(fullPlan('disaster'))) as { world: unknown }).world);
});
