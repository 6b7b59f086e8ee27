/** One VM: how it stands, its points to choose from, its disks, what happened to it. */
import { Card, CardBody, CardTitle, Grid, GridItem, PageSection, Skeleton } from '@patternfly/react-core';
import { useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { VmRow, VmStatus } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { EventList } from '#/events/event-list.tsx';
import { PageHead } from '#/shell/page-head.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { StandingLabel } from '#/shared/standing-label.tsx';
import { DisksCard } from './disks-card.tsx';
import { PointsCard } from './points-card.tsx';
import { ProtectionCard } from './protection-card.tsx';
import { VmActions } from './vm-actions.tsx';

export function VmPage() {
  const { uuid = '' } = useParams();
  const { data, error } = useCall('GET /api/v1/vm-table', ['reports', 'site', 'jobs'], {
    query: { search: uuid, limit: 10 },
  });
  const row = data?.items.find((known) => known.vm_uuid === uuid);
  const name = row?.vm_name ?? uuid;
  return (
    <>
      <PageHead
        title={name}
        crumbs={[['Virtual machines', addresses.vms]]}
        beside={row === undefined ? undefined : <StandingLabel standing={row.standing} />}
        actions={row === undefined ? undefined : <VmActions row={row} />}
      />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={error} />
        {data === undefined && error === null && (
          <Skeleton height="20rem" screenreaderText="Asking the manager" />
        )}
        {data !== undefined && row === undefined && (
          <p>This site knows no such VM. It may be at another site, or have been removed.</p>
        )}
        {row !== undefined && <VmParts row={row} />}
      </PageSection>
    </>
  );
}

function VmParts({ row }: { row: VmRow }) {
  const kept = row.statuses.find((status) => status.role === 'recovery' && status.replica_id !== null);
  return (
    <Grid hasGutter>
      {row.reasons.length > 0 && (
        <GridItem span={12}>
          <Card>
            <CardTitle component="h2">Why it cannot be protected</CardTitle>
            <CardBody>
              {row.reasons.map((reason) => (
                <p key={reason}>{reason}</p>
              ))}
            </CardBody>
          </Card>
        </GridItem>
      )}
      {kept !== undefined && (
        <GridItem span={12}>
          <PointsCard key={row.vm_uuid} row={row} status={kept} />
        </GridItem>
      )}
      {row.statuses.map((status) => (
        <GridItem key={keyOf(status)} lg={6}>
          <ProtectionCard row={row} status={status} />
        </GridItem>
      ))}
      <GridItem lg={6}>
        <DisksCard row={row} replicaId={kept?.replica_id ?? null} />
      </GridItem>
      <GridItem lg={row.statuses.length % 2 === 0 ? 6 : 12}>
        <Card isFullHeight>
          <CardTitle component="h2">Events</CardTitle>
          <CardBody>
            <EventList subject={row.vm_uuid} limit={12} />
          </CardBody>
        </Card>
      </GridItem>
    </Grid>
  );
}

function keyOf(status: VmStatus): string {
  return `${status.role} ${status.protected_site} ${status.recovery_site}`;
}
