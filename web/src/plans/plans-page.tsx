/** The recovery plans of this site: whether each would come up, what it would cost, when it was last proven. */
import { Card, CardBody, CardTitle, Label, PageSection } from '@patternfly/react-core';
import { useState } from 'react';
import { Link, useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { Run } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, plural } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PlansCard } from '#/overview/plans-card.tsx';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { canManage, canStartRun } from '#/shared/what-may-be-done.ts';
import { FailbackDialog } from './failback-dialog.tsx';
import { RUN_WORDS, runLook } from './words.ts';

export function PlansPage() {
  const navigate = useNavigate();
  const groups = useCall('GET /api/v1/groups', ['site']);
  const [isFailback, setFailback] = useState(false);
  return (
    <>
      <PageHead
        title="Recovery plans"
        actions={
          <>
            <ActionButton
              name="Bring VMs home…"
              whyNot={canStartRun('failback')}
              onClick={() => setFailback(true)}
            />
            <ActionButton
              name="New from a file…"
              variant="primary"
              whyNot={canManage('plan.manage')}
              onClick={() => void navigate(addresses.planFile)}
            />
          </>
        }
      />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <PlansCard />
        <RunsCard />
        <Card>
          <CardTitle component="h2">Protection groups</CardTitle>
          <CardBody>
            <PlainTable
              columns={['Group', 'From', 'VMs', 'In the plans']}
              none="No VM is in a protection group."
              rows={(groups.data?.items ?? []).map((group) => [
                group.document.name,
                group.document.site,
                `${plural(group.document.vms.length, 'VM')}: ${group.document.vms.slice(0, 5).join(', ')}`,
                group.plans.map((name) => (
                  <Link key={name} to={addresses.plan(name)}>
                    {name}{' '}
                  </Link>
                )),
              ])}
            />
          </CardBody>
        </Card>
        {isFailback && <FailbackDialog onClose={() => setFailback(false)} />}
      </PageSection>
    </>
  );
}

/** The last runs, the newest first: of all plans, or of one. */
export function useRunsOf(plan?: string): readonly Run[] {
  const { data } = useCall('GET /api/v1/runs', ['jobs'], { query: { limit: 100 } });
  return (data?.items ?? []).filter((run) => plan === undefined || run.plan === plan);
}

export function RunsCard({ plan }: { plan?: string }) {
  const nowMs = useNow();
  const runs = useRunsOf(plan);
  return (
    <Card>
      <CardTitle component="h2">Runs</CardTitle>
      <CardBody>
        <PlainTable
          columns={['Run', 'Plan', 'State', 'Steps', 'Begun', 'By']}
          none="It was never run."
          rows={runs.map((run) => [
            <Link key="run" to={addresses.run(run.id)}>
              {RUN_WORDS[run.kind]}
            </Link>,
            run.plan,
            <Label key="state" isCompact variant="outline" {...runLook(run.state)}>
              {run.state}
            </Label>,
            `${run.done_count} of ${run.step_count}`,
            moment(run.created_ms, nowMs),
            run.started_by,
          ])}
        />
      </CardBody>
    </Card>
  );
}
