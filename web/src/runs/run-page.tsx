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
import { useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { Run } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, plural, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { RUN_WORDS, runLook } from '#/plans/words.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ConsoleButton } from '#/shared/console-button.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canMoveRun, canOpenConsoleOf } from '#/shared/what-may-be-done.ts';
import { ReportLinks } from './report-links.tsx';
import { ReprotectionTable, useRunReprotection } from './reprotect-run-dialog.tsx';
import { RunActions } from './run-actions.tsx';
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
        actions={<RunActions run={run} />}
      />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
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
        <WayBack run={run} />
        <RunSteps run={run} />
        <ReportLinks id={run.id} />
      </PageSection>
    </>
  );
}

/** Of a move that is over: how its VMs are protected to where they came from. */
function WayBack({ run }: { run: Run }) {
  const isMoved = canMoveRun('reprotect', run) === undefined;
  const { data } = useRunReprotection(run.id, isMoved);
  if (data === undefined || data.vms.every((vm) => vm.state === 'not_here')) return null;
  return (
    <Card>
      <CardTitle component="h2">The way back</CardTitle>
      <CardBody>
        <ReprotectionTable vms={data.vms} />
      </CardBody>
    </Card>
  );
}

function SoFar({ run }: { run: Run }) {
  const nowMs = useNow();
  const endMs = run.up_ms ?? run.ended_ms;
  const lasted = span((endMs ?? nowMs) - run.created_ms);
  const title =
    endMs === null
      ? `${plural(run.done_count, 'step')} of ${run.step_count}, for ${lasted}`
      : `${run.up_ms === null ? 'Over' : 'All up'} after ${lasted}`;
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
      columns={['Priority', 'VM', 'State', 'From', 'Up after', 'Healthy after', 'Screen']}
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
          <ConsoleButton key="screen" recoveryId={vm.job_id} whyNot={canOpenConsoleOf(run, vm)} />,
        ])}
    />
  );
}
