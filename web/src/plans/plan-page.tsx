/** One recovery plan: would it come up now, in which order, and its runs. */
import { Card, CardBody, CardTitle, Flex, Grid, GridItem, Label, PageSection } from '@patternfly/react-core';
import { Link, useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import { useCall } from '#/api/use-call.ts';
import { plural, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { isOpen } from '#/shared/run-moves.ts';
import { RunActions } from '#/runs/run-actions.tsx';
import { FindingsList } from './findings-list.tsx';
import { PlanActions } from './plan-actions.tsx';
import { PlanPicture } from './plan-picture.tsx';
import { RunsCard, useRunsOf } from './plans-page.tsx';
import { RUN_WORDS } from './words.ts';

export function PlanPage() {
  const { name = '' } = useParams();
  const params = { id: name };
  const details = useCall('GET /api/v1/plans/{id}/details', ['site'], { params });
  const readiness = useCall('GET /api/v1/plans/{id}/readiness', ['reports', 'jobs', 'site'], { params });
  const runs = useRunsOf(name);
  const open = runs.find((run) => isOpen(run));
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
        actions={<PlanActions plan={name} runs={runs} />}
      />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={details.error} />
        <Grid hasGutter>
          {open !== undefined && (
            <GridItem span={12}>
              <OpenRun id={open.id} />
            </GridItem>
          )}
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
      </PageSection>
    </>
  );
}

/** A run that still has VMs of the plan, with what can be done with it: nothing else begins before it ends. */
function OpenRun({ id }: { id: string }) {
  const { data } = useCall('GET /api/v1/runs/{id}', ['jobs'], { params: { id } });
  if (data === undefined) return null;
  return (
    <Card>
      <CardTitle component="h2">
        <Link to={addresses.run(id)}>
          {RUN_WORDS[data.kind]}: {data.state}, {data.done_count} of {plural(data.step_count, 'step')}
        </Link>
      </CardTitle>
      <CardBody>
        <Flex gap={{ default: 'gapSm' }}>
          <RunActions run={data} />
        </Flex>
      </CardBody>
    </Card>
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
