/** How everything stands, and what waits for a person: the page that hangs on the wall. */
import { Card, CardBody, CardTitle, Grid, GridItem, PageSection, Skeleton } from '@patternfly/react-core';
import { useCall } from '#/api/use-call.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { NeedsList } from './needs-list.tsx';
import { PlansCard } from './plans-card.tsx';
import { SitesPicture } from './sites-picture.tsx';
import { StandingSummary } from './standing-summary.tsx';
import { WorstList } from './worst-list.tsx';

export function OverviewPage() {
  const { data, error } = useCall('GET /api/v1/overview', ['reports', 'jobs', 'site']);
  return (
    <>
      <PageHead title="Overview" />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={error} />
        {data === undefined ? (
          <Skeleton height="24rem" screenreaderText="Asking the manager" />
        ) : (
          <Grid hasGutter>
            <GridItem lg={8}>
              <Card isFullHeight>
                <CardTitle component="h2">Sites</CardTitle>
                <CardBody>
                  <SitesPicture overview={data} />
                </CardBody>
              </Card>
            </GridItem>
            <GridItem lg={4}>
              <Card isFullHeight>
                <CardTitle component="h2">Virtual machines</CardTitle>
                <CardBody>
                  <StandingSummary counts={data.counts} />
                </CardBody>
              </Card>
            </GridItem>
            <GridItem lg={6}>
              <Card isFullHeight>
                <CardTitle component="h2">Needs a person</CardTitle>
                <CardBody>
                  <NeedsList needs={data.needs} count={data.need_count} />
                </CardBody>
              </Card>
            </GridItem>
            <GridItem lg={6}>
              <Card isFullHeight>
                <CardTitle component="h2">Nearest to their RPO</CardTitle>
                <CardBody>
                  <WorstList rows={data.worst} />
                </CardBody>
              </Card>
            </GridItem>
            <GridItem span={12}>
              <PlansCard />
            </GridItem>
          </Grid>
        )}
      </PageSection>
    </>
  );
}
