/** The steps of a run, those of the plan and those of each VM; messages are answered where they stand. */
import { Card, CardBody, CardTitle, Flex } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { Run, RunStep } from '#/api/types.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { StepList, type ShownStep } from '#/shared/step-list.tsx';
import { canSkipStep, canStartRun } from '#/shared/what-may-be-done.ts';

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
    // Of a message that was skipped, who said so and why.
    note: step.state === 'skipped' ? step.note : (step.text ?? step.note),
    ...askOf(run, step),
  };
}

/** What waits for a person: a message, or a step that keeps others from going on. */
function askOf(run: Run, step: RunStep): Pick<ShownStep, 'ask'> {
  if (step.kind === 'message' && step.state === 'running') return { ask: <Answer run={run} step={step} /> };
  const isStuck = step.state === 'failed' && (run.state === 'failed' || run.state === 'cancelled');
  return isStuck ? { ask: <Skip run={run} step={step} /> } : {};
}

function Answer({ run, step }: { run: Run; step: RunStep }) {
  const [asked, setAsked] = useState<'continue' | 'abort'>();
  const whyNot = canStartRun(run.kind);
  const answer = (word: 'continue' | 'abort', reason: string) =>
    call('POST /api/v1/runs/{id}/steps/{key}/answer', {
      params: { id: run.id, key: step.key },
      body: { answer: word },
      reason,
    });
  return (
    <Flex gap={{ default: 'gapSm' }}>
      <ActionButton name="Go on…" variant="primary" whyNot={whyNot} onClick={() => setAsked('continue')} />
      <ActionButton name="Stop here…" whyNot={whyNot} onClick={() => setAsked('abort')} />
      {asked !== undefined && (
        <ConfirmDialog
          title={asked === 'continue' ? 'Go on?' : 'Stop here?'}
          action={asked === 'continue' ? 'Go on' : 'Stop here'}
          isDangerous={asked === 'abort'}
          asksReason
          onClose={() => setAsked(undefined)}
          onConfirm={(reason) => answer(asked, reason)}
        >
          <p>{step.text ?? step.name}</p>
          {asked === 'abort' && <p>The step counts as failed, and what needs it is left out.</p>}
        </ConfirmDialog>
      )}
    </Flex>
  );
}

function Skip({ run, step }: { run: Run; step: RunStep }) {
  const [isAsking, setAsking] = useState(false);
  return (
    <Flex gap={{ default: 'gapSm' }}>
      <ActionButton name="Skip…" whyNot={canSkipStep(run, step)} onClick={() => setAsking(true)} />
      {isAsking && (
        <ConfirmDialog
          title={`Go on without "${step.name}"?`}
          action="Skip the step"
          isDangerous
          isReasonNeeded
          onClose={() => setAsking(false)}
          onConfirm={(reason) =>
            call('POST /api/v1/runs/{id}/steps/{key}/skip', {
              params: { id: run.id, key: step.key },
              body: { reason },
              reason,
            })
          }
        >
          <p>What follows it is carried out when the run is resumed. That it was skipped stays on record.</p>
        </ConfirmDialog>
      )}
    </Flex>
  );
}
