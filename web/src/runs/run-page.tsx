/** One run of a plan, live: the VMs, the steps, what waits for a person. Later the record of it. */
import {
  Alert,
  Card,
  CardBody,
  CardTitle,
  Label,
  PageSection,
  Progress,
  Skeleton,
} from '@patternfly/react-core';
import { useState } from 'react';
import { useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { Run } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, plural, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { RUN_WORDS, runLook } from '#/plans/words.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canCancelRun, canCleanUpRun, canResumeRun } from '#/shared/what-may-be-done.ts';
import { ReportLinks } from './report-links.tsx';
import { RunSteps } from './run-steps.tsx';

export function RunPage() {
  const { id = '' } = useParams();
  const { data, error } = useCall('GET /api/v1/runs/{id}', ['jobs'], { params: { id } });
  if (data !== undefined) return <KnownRun run={data} />;
  return (
    <>
      <PageHead title={id} crumbs={[['Recovery plans', addresses.plans]]} />
      <PageSection hasBodyWrapper={false}>
        <ProblemAlert error={error} />
        {error === null && <Skeleton height="12rem" />}
      </PageSection>
    </>
  );
}

function KnownRun({ run }: { run: Run }) {
  const [isAsking, setAsking] = useState(false);
  const [failure, setFailure] = useState<Error>();
  const params = { id: run.id };
  const does = (work: Promise<unknown>) => {
    setFailure(undefined);
    work.catch((error: unknown) => setFailure(error instanceof Error ? error : new Error('it failed')));
  };
  return (
    <>
      <PageHead
        title={`${RUN_WORDS[run.kind]} of ${run.plan}`}
        crumbs={[
          ['Recovery plans', addresses.plans],
          [run.plan, addresses.plan(run.plan)],
        ]}
        beside={
          <Label variant="outline" {...runLook(run.state)}>
            {run.state}
          </Label>
        }
        actions={
          <>
            <ActionButton name="Cancel…" whyNot={canCancelRun(run)} onClick={() => setAsking(true)} />
            <ActionButton
              name="Resume"
              whyNot={canResumeRun(run)}
              onClick={() => does(call('POST /api/v1/runs/{id}/resume', { params }))}
            />
            <ActionButton
              name="Clean up"
              variant={run.state === 'ready' ? 'primary' : 'secondary'}
              whyNot={canCleanUpRun(run)}
              onClick={() => does(call('POST /api/v1/runs/{id}/cleanup', { params }))}
            />
          </>
        }
      />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <ProblemAlert error={failure} />
        {run.failure !== null && (
          <Alert variant="danger" isInline title={run.failure.message}>
            {run.failure.hint}
          </Alert>
        )}
        {run.warnings.map((warning) => (
          <Alert key={warning} variant="warning" isInline isPlain title={warning} />
        ))}
        <SoFar run={run} />
        <Card>
          <CardTitle component="h2">VMs</CardTitle>
          <CardBody>
            <VmsOfRun run={run} />
          </CardBody>
        </Card>
        <RunSteps run={run} />
        <ReportLinks run={run} />
        {isAsking && (
          <ConfirmDialog
            title={`Cancel the ${RUN_WORDS[run.kind].toLowerCase()} of ${run.plan}?`}
            action="Cancel the run"
            isDangerous
            onClose={() => setAsking(false)}
            onConfirm={() => call('POST /api/v1/runs/{id}/cancel', { params })}
          >
            <p>{CANCEL_SAYS[run.kind]}</p>
          </ConfirmDialog>
        )}
      </PageSection>
    </>
  );
}

const CANCEL_SAYS: Record<Run['kind'], string> = {
  test: 'The copies that it made are removed.',
  migration: 'What was brought up here is removed, and what was shut down is started again where it was.',
  disaster: 'It stops where it is. What runs here stays, and the run can be resumed.',
  failback: 'What was brought up here is removed, and what was shut down is started again where it was.',
};

function SoFar({ run }: { run: Run }) {
  const nowMs = useNow();
  const endMs = run.up_ms ?? run.ended_ms;
  const lasted = span((endMs ?? nowMs) - run.created_ms);
  const title =
    endMs === null
      ? `${plural(run.done_count, 'step')} of ${run.step_count}, for ${lasted}`
      : `All up after ${lasted}`;
  return (
    <Progress
      title={`${title}; begun ${moment(run.created_ms, nowMs)} by ${run.started_by}`}
      value={run.step_count === 0 ? 0 : (100 * run.done_count) / run.step_count}
      {...(run.state === 'failed' ? { variant: 'danger' as const } : {})}
      {...(run.state === 'done' || run.state === 'ready' ? { variant: 'success' as const } : {})}
    />
  );
}

function VmsOfRun({ run }: { run: Run }) {
  const nowMs = useNow();
  return (
    <PlainTable
      columns={['Priority', 'VM', 'State', 'From', 'Up after', 'Healthy after']}
      rows={run.vms
        .toSorted((a, b) => a.priority - b.priority)
        .map((vm) => [
          vm.priority,
          vm.vm_name,
          <Label
            key="state"
            isCompact
            variant="outline"
            {...(vm.state === 'failed' ? { status: 'danger' as const } : {})}
            {...(vm.state === 'healthy' || vm.state === 'alone' ? { status: 'success' as const } : {})}
          >
            {vm.state}
          </Label>,
          vm.moment_ms === null
            ? ''
            : `${moment(vm.moment_ms, nowMs)} (${span(run.created_ms - vm.moment_ms)} old)`,
          vm.up_ms === null ? '' : span(vm.up_ms - run.created_ms),
          vm.healthy_ms === null ? '' : span(vm.healthy_ms - run.created_ms),
        ])}
    />
  );
}
