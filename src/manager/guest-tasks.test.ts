import assert from 'node:assert/strict';
import { test } from 'node:test';
import { doneTask, failedTask, LEDGER_UUID, twoSites } from './site-fixture.ts';

test('what a plan asks of a guest is ordered once of its host, followed, and taken back', async () => {
  await using sites = await twoSites();
  const { east, eastAgent } = sites;
  const { guests } = east.manager;
  const host = east.manager.context.inventory.agents()[0]!;
  const vm = { hostId: host.id, vmUuid: LEDGER_UUID, vmName: 'ledger' };
  const http = { kind: 'http', address: '10.0.0.5/24' } as const;
  assert.deepEqual(await guests.probe('p', vm, http), { state: 'waiting' });
  assert.deepEqual(await guests.probe('p', vm, http), { state: 'waiting' });
  const probe = await eastAgent.task('probe');
  const { tasks } = await eastAgent.now();
  assert.equal(tasks.length, 1);
  assert.deepEqual(probe.probe, { kind: 'http', port: 80, path: '/', address: '10.0.0.5/24' });
  await eastAgent.finish(doneTask(probe.id, { said: 'status 200' }));
  assert.deepEqual(await guests.probe('p', vm, http), { state: 'done', result: { said: 'status 200' } });

  const program = { path: '/bin/true', arguments: [], timeoutMs: 1000 };
  // Ids of steps that are no ids of tasks get one, always the same.
  await guests.execute('Run 1/VM A', vm, program);
  const execute = await eastAgent.task('execute');
  await eastAgent.finish(failedTask(execute.id, 'it ended with 1'));
  const failed = await guests.execute('Run 1/VM A', vm, program);
  assert.equal(failed.state, 'failed');

  const wrong = await guests.execute('wrong', vm, { ...program, path: '' });
  assert(wrong.state === 'failed' && wrong.failure.code === 'usage_invalid');
  await guests.execute('unlimited', vm, { ...program, timeoutMs: 0 });
  const { tasks: now } = await eastAgent.now();
  assert.deepEqual(
    now.map((task) => [task.id, task.kind === 'execute' && task.timeout_ms]),
    [['unlimited', 300_000]],
  );
  await eastAgent.finish(doneTask('unlimited'));

  await guests.suspend('s', vm);
  await guests.resume('r', vm, 's');
  const resume = await eastAgent.task('resume');
  assert.equal(resume.suspend_id, (await eastAgent.task('suspend')).id);
  await guests.cancel('s');
  const withdrawn = await guests.suspend('s', vm);
  assert(withdrawn.state === 'failed' && withdrawn.failure.code === 'cancelled');
  assert.deepEqual(
    (await eastAgent.now()).tasks.map(({ kind }) => kind),
    ['resume'],
  );
  const gone = { ...vm, hostId: 'agent-gone' };
  await guests.probe('q', gone, { kind: 'agent' });
  const lost = await guests.probe('q', gone, { kind: 'agent' });
  assert(lost.state === 'failed' && lost.failure.code === 'unreachable');
});
