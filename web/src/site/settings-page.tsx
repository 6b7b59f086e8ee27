/** What is set for the site: the networks, directories and hosts that become others here. */
import { Card, CardBody, CardTitle, PageSection } from '@patternfly/react-core';
import { useCall } from '#/api/use-call.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';

export function SettingsPage() {
  return (
    <>
      <PageHead title="Settings" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <Mappings />
      </PageSection>
    </>
  );
}

function Mappings() {
  const { data } = useCall('GET /api/v1/mappings', ['site']);
  return (
    <Card>
      <CardTitle component="h2">Mappings</CardTitle>
      <CardBody>
        <PlainTable
          columns={['Kind', 'Site', 'There', 'Here']}
          none="Networks, directories and hosts are taken by their own names."
          rows={(data?.items ?? []).map((mapping) => [
            mapping.kind,
            mapping.site_name,
            mapping.there,
            mapping.here,
          ])}
        />
      </CardBody>
    </Card>
  );
}
