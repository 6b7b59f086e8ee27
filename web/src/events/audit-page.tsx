/** Who did what, from where and why; and whether that record is whole. */
import { Alert, PageSection } from '@patternfly/react-core';
import { useCall } from '#/api/use-call.ts';
import { count, moment } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';

const LISTED = 200;

export function AuditPage() {
  const nowMs = useNow();
  const audit = useCall('GET /api/v1/audit', ['events', 'jobs', 'site'], { query: { limit: LISTED } });
  const verified = useCall('GET /api/v1/audit/verification', []);
  return (
    <>
      <PageHead title="Audit" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <ProblemAlert error={audit.error} />
        {verified.data !== undefined && (
          <Alert
            isInline
            variant={verified.data.is_whole ? 'success' : 'danger'}
            title={
              verified.data.is_whole
                ? `The record is whole, up to row ${count(verified.data.last_sequence)}.`
                : `The record is not as it was written: ${verified.data.problems.join('; ')}`
            }
          />
        )}
        <PlainTable
          columns={['When', 'Who', 'What', 'About', 'Outcome', 'From', 'Why']}
          none="Nobody has changed anything yet."
          rows={(audit.data?.items ?? []).map((row) => [
            moment(row.at_ms, nowMs),
            row.actor,
            row.action,
            row.subject,
            row.outcome,
            row.address,
            row.reason ?? '',
          ])}
        />
      </PageSection>
    </>
  );
}
