/** One recovery plan: would it come up now, in which order, and its runs. */
import { Card, CardBody, CardTitle, Grid, GridItem, Label, PageSection } from '@patternfly/react-core';
import { useState } from 'react';
import { useNavigate, useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { RunKind } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canStartRun } from '#/shared/what-may-be-done.ts';
import { FindingsList } from './findings-list.tsx';
import { PlanPicture } from './plan-picture.tsx';
import { RunsCard } from './plans-page.tsx';
import { StartRunDialog } from './start-run-dialog.tsx';

export function PlanPage() {
  const { name = '' } = useParams();
  const navigate = useNavigate();
  const params = { id: name };
  const details = useCall('GET /api/v1/plans/{id}/details', ['site'], { params });
  const readiness = useCall('GET /api/v1/plans/{id}/readiness', ['reports', 'jobs', 'site'], { params });
  const [kind, setKind] = useState<RunKind>();
  const isReady = readiness.data?.is_ready;
  return (
    <>
      <PageHead
        title={name}
        crumbs={[['Recovery plans', addresses.plans]]}
        beside={
          isReady !== undefined && (
            <Label variant="outline" status={isReady ? 'success' : 'danger'}>
              {isReady ? 'Ready' : 'Not ready'}
            </Label>
          )
        }
        actions={
          <>
            <ActionButton
              name="Edit as a file…"
              variant="link"
              onClick={() => void navigate(addresses.planFileOf(name))}
            />
            <ActionButton
              name="Test…"
              variant="primary"
              whyNot={canStartRun('test')}
              onClick={() => setKind('test')}
            />
            <ActionButton
              name="Migrate…"
              whyNot={canStartRun('migration')}
              onClick={() => setKind('migration')}
            />
            <ActionButton
              name="Recover…"
              variant="danger"
              whyNot={canStartRun('disaster')}
              onClick={() => setKind('disaster')}
            />
          </>
        }
      />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={details.error} />
        <Grid hasGutter>
          <GridItem lg={7}>
            <Card isFullHeight>
              <CardTitle component="h2">Order</CardTitle>
              <CardBody>{details.data !== undefined && <PlanPicture vms={details.data.vms} />}</CardBody>
            </Card>
          </GridItem>
          <GridItem lg={5}>
            <Card isFullHeight>
              <CardTitle component="h2">Would it come up now?</CardTitle>
              <CardBody>
                {readiness.data !== undefined && <Predicted readiness={readiness.data} />}
                <FindingsList
                  findings={readiness.data?.findings ?? []}
                  problems={details.data?.problems ?? []}
                />
              </CardBody>
            </Card>
          </GridItem>
          <GridItem span={12}>
            <Card>
              <CardTitle component="h2">VMs</CardTitle>
              <CardBody>
                <VmsOfPlan name={name} />
              </CardBody>
            </Card>
          </GridItem>
          <GridItem span={12}>
            <RunsCard plan={name} />
          </GridItem>
        </Grid>
        {kind !== undefined && <StartRunDialog plan={name} kind={kind} onClose={() => setKind(undefined)} />}
      </PageSection>
    </>
  );
}

function Predicted({
  readiness,
}: {
  readiness: { predicted_rpo_ms: number | null; predicted_rto_ms: number | null; proven_ms: number | null };
}) {
  const nowMs = useNow();
  const { predicted_rpo_ms: rpoMs, predicted_rto_ms: rtoMs, proven_ms: provenMs } = readiness;
  return (
    <p className="lead">
      {rpoMs === null ? 'What it would lose is not known' : `It would lose at most ${span(rpoMs)}`}
      {rtoMs === null ? '; how long it takes is known after a test. ' : ` and take about ${span(rtoMs)}. `}
      {provenMs === null
        ? 'No test has proven all of it.'
        : `Last proven ${span(Math.max(0, nowMs - provenMs))} ago.`}
    </p>
  );
}

function VmsOfPlan({ name }: { name: string }) {
  const params = { id: name };
  const details = useCall('GET /api/v1/plans/{id}/details', ['site'], { params });
  const readiness = useCall('GET /api/v1/plans/{id}/readiness', ['reports', 'jobs', 'site'], { params });
  const judged = new Map((readiness.data?.vms ?? []).map((vm) => [vm.vm_uuid, vm]));
  return (
    <PlainTable
      columns={['Priority', 'VM', 'After', 'Networks', 'Host', 'Would lose', 'Took in its last tests']}
      rows={(details.data?.vms ?? []).map((vm) => {
        const known = judged.get(vm.vm_uuid);
        const rpoMs = known?.predicted_rpo_ms ?? null;
        const rtoMs = known?.predicted_rto_ms ?? null;
        return [
          vm.priority,
          vm.start === 'off' ? `${vm.vm_name} (left off)` : vm.vm_name,
          vm.depends_on.join(', ') || '–',
          Object.entries(vm.networks)
            .map(([there, here]) => `${there} → ${here}`)
            .join(', '),
          known?.host_name ?? vm.host ?? 'any',
          rpoMs === null ? 'not known' : span(rpoMs),
          rtoMs === null ? 'never tested' : span(rtoMs),
        ];
      })}
    />
  );
}
