/** One recovery, live: its steps as they happen, what came of it, its cleanup. Later the record of it. */
import { Card, CardBody, CardTitle, Label, PageSection, Skeleton } from '@patternfly/react-core';
import { useState } from 'react';
import { useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { Recovery } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ReportLinks } from '#/runs/report-links.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConsoleButton } from '#/shared/console-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { StepList, type ShownStep } from '#/shared/step-list.tsx';
import { canCleanUp, canOpenConsole, canRetry } from '#/shared/what-may-be-done.ts';

const WORDS = { test: 'Test', recovery: 'Recovery', migration: 'Migration' };
const LOOKS = {
  running: 'info',
  ready: 'success',
  cleaning: 'info',
  done: 'success',
  failed: 'danger',
  cleaned: undefined,
} as const;

export function RecoveryPage() {
  const { id = '' } = useParams();
  const { data, error } = useCall('GET /api/v1/recoveries/{id}', ['jobs'], { params: { id } });
  if (data === undefined) {
    return (
      <>
        <PageHead title={id} crumbs={[['Virtual machines', addresses.vms]]} />
        <PageSection hasBodyWrapper={false}>
          <ProblemAlert error={error} />
          {error === null && <Skeleton height="12rem" />}
        </PageSection>
      </>
    );
  }
  return <KnownRecovery recovery={data} />;
}

function KnownRecovery({ recovery }: { recovery: Recovery }) {
  const { id, purpose, state, vm_name: vm } = recovery;
  const [asked, setAsked] = useState<'cleanup' | 'retry'>();
  const replica = useCall('GET /api/v1/replicas/{id}', ['site'], { params: { id: recovery.replica_id } });
  const uuid = replica.data?.vm_uuid;
  const look = LOOKS[state];
  const isTest = purpose === 'test';
  return (
    <>
      <PageHead
        title={`${WORDS[purpose]} of ${vm}`}
        crumbs={[
          ['Virtual machines', addresses.vms],
          ...(uuid === undefined ? [] : [[vm, addresses.vm(uuid)] as const]),
        ]}
        beside={
          <Label variant="outline" {...(look === undefined ? {} : { status: look })}>
            {state}
          </Label>
        }
        actions={
          <>
            <ConsoleButton recoveryId={id} whyNot={canOpenConsole(recovery)} />
            {!isTest && (
              <ActionButton
                name="Retry…"
                variant={state === 'failed' ? 'primary' : 'secondary'}
                whyNot={canRetry(recovery)}
                onClick={() => setAsked('retry')}
              />
            )}
            <ActionButton
              name={isTest ? 'Clean up…' : 'Cancel and clean up…'}
              variant={state === 'ready' ? 'primary' : 'secondary'}
              whyNot={canCleanUp(recovery)}
              onClick={() => setAsked('cleanup')}
            />
          </>
        }
      />
      <PageSection hasBodyWrapper={false} isFilled>
        <RecoveryParts recovery={recovery} />
        {asked !== undefined && (
          <ConfirmDialog
            title={`${asked === 'retry' ? 'Go on with' : isTest ? 'Clean up' : 'Cancel'} the ${purpose} of ${vm}?`}
            action={asked === 'retry' ? 'Go on' : 'Clean up'}
            isDangerous={asked === 'cleanup' && !isTest}
            asksReason
            onClose={() => setAsked(undefined)}
            onConfirm={(reason) =>
              asked === 'retry'
                ? call('POST /api/v1/recoveries/{id}/retry', { params: { id }, reason })
                : call('POST /api/v1/recoveries/{id}/cleanup', { params: { id }, reason })
            }
          >
            <p>{asked === 'retry' ? RETRY_SAYS : isTest ? TEST_SAYS : CANCEL_SAYS}</p>
          </ConfirmDialog>
        )}
      </PageSection>
    </>
  );
}

const RETRY_SAYS =
  'Its VM has come up. What is still to be done, such as bringing its disks over, is begun again on the open point.';
const TEST_SAYS = 'The copy that it made is removed, with everything that was done in it. The VM runs on.';
const CANCEL_SAYS = 'What it has made here is removed. If the VM was shut down for it, it is started again.';

function RecoveryParts({ recovery }: { recovery: Recovery }) {
  const nowMs = useNow();
  const { name, purpose, state } = recovery;
  const before = span(recovery.created_ms - (recovery.moment_ms ?? recovery.created_ms));
  const age =
    recovery.moment_ms === null
      ? ''
      : ` from ${moment(recovery.moment_ms, nowMs)}, ${before} before it was asked for`;
  const steps = recovery.steps.map((step): ShownStep => ({
    key: step.name,
    name: step.name.replaceAll('_', ' '),
    state: step.state,
    startedMs: step.started_ms,
    endedMs: step.ended_ms,
    failure: step.failure?.message ?? null,
    note: null,
    progress: step.progress,
    details: step.details.map((detail) => ({
      name: detail.name.replaceAll('_', ' '),
      startedMs: detail.started_ms,
      endedMs: detail.ended_ms,
      note: detail.note,
    })),
  }));
  return (
    <>
      <p className="lead">
        {state === 'cleaned'
          ? `${name} was brought up and removed again.`
          : `${name} ${state === 'running' ? 'is being brought up' : 'is'} on this site${age}.`}
        {purpose === 'test' && state === 'ready' && ' It is alone on its network, and waits for its cleanup.'}
      </p>
      {recovery.failure !== null && (
        <ProblemAlert error={new Error(recovery.failure.message)} title="It failed" />
      )}
      <Card>
        <CardTitle component="h2">Steps</CardTitle>
        <CardBody>
          <StepList steps={steps} />
        </CardBody>
      </Card>
      <ReportLinks id={recovery.id} />
    </>
  );
}
