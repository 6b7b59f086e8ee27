/** The steps of a run, those of the plan and those of each VM; messages are answered where they stand. */
import { Button, Card, CardBody, CardTitle, Flex } from '@patternfly/react-core';
import { call } from '#/api/call.ts';
import type { Run, RunStep } from '#/api/types.ts';
import { StepList, type ShownStep } from '#/shared/step-list.tsx';
import { canStartRun } from '#/shared/what-may-be-done.ts';

export function RunSteps({ run }: { run: Run }) {
  const steps = run.steps ?? [];
  const groups = Map.groupBy(steps, (step) => step.vm_uuid ?? '');
  const names = new Map(run.vms.map((vm) => [vm.vm_uuid, vm.vm_name]));
  return (
    <>
      {[...groups].map(([uuid, own]) => (
        <Card key={uuid}>
          <CardTitle component="h2">{uuid === '' ? 'Of the plan' : (names.get(uuid) ?? uuid)}</CardTitle>
          <CardBody>
            <StepList steps={own.filter(isWorthShowing(run)).map((step) => shown(run, step))} />
          </CardBody>
        </Card>
      ))}
    </>
  );
}

/** Steps of undoing are shown once that has begun. */
function isWorthShowing(run: Run): (step: RunStep) => boolean {
  const isUndoing = run.state === 'cleaning' || run.state === 'cleaned';
  return (step) => step.phase === 'forward' || isUndoing || step.state !== 'waiting';
}

function shown(run: Run, step: RunStep): ShownStep {
  const tries = step.attempts > 1 ? ` (try ${step.attempts})` : '';
  return {
    key: step.key,
    name: `${step.name}${tries}`,
    state: step.state,
    startedMs: step.started_ms,
    endedMs: step.ended_ms,
    failure: step.failure?.message ?? null,
    note: step.text ?? step.note,
    ...(step.kind === 'message' && step.state === 'running' ? { ask: <Answer run={run} step={step} /> } : {}),
  };
}

function Answer({ run, step }: { run: Run; step: RunStep }) {
  const answer = (word: 'continue' | 'abort') => {
    void call('POST /api/v1/runs/{id}/steps/{key}/answer', {
      params: { id: run.id, key: step.key },
      body: { answer: word },
    });
  };
  const isLocked = canStartRun(run.kind) !== undefined;
  return (
    <Flex gap={{ default: 'gapSm' }}>
      <Button variant="primary" size="sm" isDisabled={isLocked} onClick={() => answer('continue')}>
        Go on
      </Button>
      <Button variant="secondary" size="sm" isDisabled={isLocked} onClick={() => answer('abort')}>
        Stop here
      </Button>
    </Flex>
  );
}
