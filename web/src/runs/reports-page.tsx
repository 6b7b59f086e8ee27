/** The signed records of recoveries, tests and runs. */
import { Label, PageSection } from '@patternfly/react-core';
import { useCall } from '#/api/use-call.ts';
import { moment, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { ReportFiles } from './report-links.tsx';

const LISTED = 200;

export function ReportsPage() {
  const nowMs = useNow();
  const { data, error } = useCall('GET /api/v1/reports', ['events'], { query: { limit: LISTED } });
  return (
    <>
      <PageHead title="Reports" />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={error} />
        <PlainTable
          columns={['Ended', 'What', 'Of', 'Outcome', 'Took', 'Files']}
          none="Nothing has been recovered or tested yet."
          rows={(data?.items ?? []).map((report) => [
            moment(report.ended_ms, nowMs),
            report.kind,
            report.plan ?? report.vms.join(', '),
            <Label
              key="outcome"
              isCompact
              variant="outline"
              status={report.outcome === 'passed' ? 'success' : 'danger'}
            >
              {report.outcome}
            </Label>,
            span(report.ended_ms - report.started_ms),
            <ReportFiles key="files" id={report.id} files={report.files} />,
          ])}
        />
      </PageSection>
    </>
  );
}
