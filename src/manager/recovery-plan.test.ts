import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextMove, type StepName } from './recovery-plan.ts';
import type { Job, JobStep } from './store/job-store.ts';

type Part = Pick<Job, 'state' | 'steps' | 'request' | 'updated_ms'>;

function jobOf(purpose: Job['request']['purpose']): Part {
  return { state: 'running', steps: [], updated_ms: 0, request: { purpose } as Job['request'] };
}

/** Does what the move says; a step succeeds unless it is `failing`. Resolves with the names of the steps done. */
function run(job: Part, failing?: StepName, stopAfter = Infinity): { job: Part; done: string[] } {
  const done: string[] = [];
  for (let count = 0; count < 50; count++) {
    const move = nextMove(job);
    if (move.kind === 'none') return { job, done };
    if (move.kind === 'finish') {
      job = { ...job, state: move.state };
      continue;
    }
    if (done.length >= stopAfter) return { job, done };
    if (move.kind === 'begin') {
      const step = { position: move.position, name: move.name, state: 'running' } as JobStep;
      job = { ...job, steps: [...job.steps, step] };
      continue;
    }
    const state = move.name === failing ? 'failed' : 'done';
    done.push(move.name);
    job = {
      ...job,
      steps: job.steps.map((step) => (step.position === move.position ? { ...step, state } : step)),
    };
  }
  throw new Error('it does not come to an end');
}

test('a recovery raises the epoch first and closes the view last', () => {
  const { job, done } = run(jobOf('recovery'));
  assert.deepEqual(done, ['raise_epoch', 'stop_source', 'open_view', 'recover', 'close_view']);
  assert.equal(job.state, 'done');
});

test('a test keeps its view and waits for its cleanup', () => {
  const { job, done } = run(jobOf('test'));
  assert.deepEqual(done, ['open_view', 'recover']);
  assert.equal(job.state, 'ready');
  assert.deepEqual(run({ ...job, state: 'cleaning' }).done, ['discard', 'close_view']);
});

test('a step that failed ends the recovery', () => {
  for (const failing of ['raise_epoch', 'stop_source', 'open_view', 'recover', 'close_view'] as const) {
    const { job, done } = run(jobOf('recovery'), failing);
    assert.equal(job.state, 'failed');
    assert.equal(done.at(-1), failing);
  }
});

test('a cleanup asked for at any step, done or under way, undoes what was begun and ends', () => {
  for (const purpose of ['recovery', 'test'] as const) {
    for (let stopAfter = 0; stopAfter <= 5; stopAfter++) {
      const stopped = run(jobOf(purpose), undefined, stopAfter).job;
      const begun = stopped.steps.map((step) => step.name);
      // As recorded, and with its next step just begun.
      const next = nextMove({ ...stopped, state: 'running' });
      const variants = [stopped];
      if (next.kind === 'begin') {
        const step = { position: next.position, name: next.name, state: 'running' } as JobStep;
        variants.push({ ...stopped, steps: [...stopped.steps, step] });
      }
      for (const variant of variants) {
        const { job, done } = run({ ...variant, state: 'cleaning' });
        assert.equal(job.state, 'cleaned');
        const names = variant.steps.map((step) => step.name);
        assert.equal(done.includes('discard'), names.includes('recover'), `${purpose} after ${begun.join()}`);
        const isViewClosed = job.steps.some((step) => step.name === 'close_view' && step.state === 'done');
        assert.equal(isViewClosed, names.includes('open_view'), `${purpose} after ${begun.join()}`);
      }
    }
  }
});

test('asking again after any record gives the same move, so a restart repeats a step and skips none', () => {
  let job = jobOf('recovery');
  const { job: end } = run(job);
  for (const step of end.steps) {
    job = { ...job, steps: [...job.steps, { ...step, state: 'running' }] };
    const move = nextMove(job);
    assert.deepEqual(move, { kind: 'carry_out', position: step.position, name: step.name });
    assert.deepEqual(nextMove(structuredClone(job)), move);
    job = { ...job, steps: [...job.steps.slice(0, -1), step] };
  }
});

const MIGRATION = [
  'shut_down_source',
  'last_cycle',
  'raise_epoch',
  'stop_source',
  'open_view',
  'recover',
  'close_view',
] as const;

test('a migration has the last state here before it raises the epoch', () => {
  const { job, done } = run(jobOf('migration'));
  assert.deepEqual(done, MIGRATION);
  assert.equal(job.state, 'done');
});

test('a migration that fails before the epoch is raised starts the VM again where it was, by itself', () => {
  for (const failing of ['shut_down_source', 'last_cycle'] as const) {
    const { job, done } = run(jobOf('migration'), failing);
    assert.deepEqual(done, [...MIGRATION.slice(0, MIGRATION.indexOf(failing) + 1), 'start_source']);
    assert.equal(job.state, 'cleaned');
  }
  for (const failing of MIGRATION.slice(2)) {
    const { job, done } = run(jobOf('migration'), failing);
    assert.deepEqual([job.state, done.at(-1)], ['failed', failing]);
    assert(!done.includes('start_source'), 'a person decides once the epoch is raised');
  }
});

test('one that cannot be started again stays failed, and a cleanup tries that once more', () => {
  let { job } = run(jobOf('migration'), 'last_cycle', 2);
  job = { ...job, steps: [...job.steps, { position: 2, name: 'start_source', state: 'failed' } as JobStep] };
  const failure = { code: 'timeout', message: 'the link is slow', hint: null };
  job.steps[1] = { ...job.steps[1]!, failure };
  const move = nextMove(job);
  assert(move.kind === 'finish' && move.state === 'failed');
  assert.match(move.failure?.message ?? '', /^the link is slow; and it was not started again/);
  assert.deepEqual(run({ ...job, state: 'cleaning', updated_ms: 1 }).done, ['start_source']);
});

test('a cleanup of a migration, wherever it was, takes down what is here before the VM is given back', () => {
  for (let stopAfter = 0; stopAfter <= 7; stopAfter++) {
    const stopped = run(jobOf('migration'), undefined, stopAfter).job;
    const { job, done } = run({ ...stopped, state: 'cleaning' });
    assert.equal(job.state, 'cleaned');
    const begun = stopped.steps.map(({ name }) => name);
    assert.equal(done.includes('discard'), begun.includes('recover'));
    assert.equal(done.includes('start_source'), begun.includes('shut_down_source'));
    if (done.length > 0) assert.equal(done.at(-1), 'start_source');
  }
});

test('what failed when the VM was up is gone on with when that is asked for, and can still be taken down', () => {
  for (const failing of ['recover', 'close_view'] as const) {
    const { job } = run(jobOf('recovery'), failing);
    assert.equal(job.state, 'failed');
    const steps = job.steps.map((step) => ({ ...step, ended_ms: 5 }));
    assert.equal(
      run({ ...job, steps, state: 'running', updated_ms: 5 }).job.state,
      'failed',
      'not asked for',
    );
    const again = { ...job, steps, state: 'running', updated_ms: 6 } as const;
    const { job: ended, done } = run(again);
    assert.equal(ended.state, 'done');
    assert.deepEqual(done, failing === 'recover' ? ['recover', 'close_view'] : ['close_view']);
    for (let stopAfter = 0; stopAfter < done.length; stopAfter++) {
      const stopped = run(again, undefined, stopAfter).job;
      const cleaned = run({ ...stopped, state: 'cleaning' });
      assert.deepEqual([cleaned.job.state, cleaned.done], ['cleaned', ['discard', 'close_view']]);
    }
  }
  for (const failing of ['raise_epoch', 'stop_source', 'open_view'] as const) {
    const { job } = run(jobOf('recovery'), failing);
    const steps = job.steps.map((step) => ({ ...step, ended_ms: 5 }));
    assert.equal(run({ ...job, steps, state: 'running', updated_ms: 6 }).job.state, 'failed');
  }
});
