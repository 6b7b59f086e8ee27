/** Recovery plans: whether each would come up now, what it would cost, and when that was last proven. */
import { Card, CardBody, CardTitle, Label } from '@patternfly/react-core';
import { Link } from 'react-router';
import { addresses } from '#/addresses.ts';
import { useCall } from '#/api/use-call.ts';
import { span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';

export function PlansCard() {
  const { data } = useCall('GET /api/v1/readiness', ['reports', 'jobs', 'site']);
  const nowMs = useNow();
  const plans = data?.items ?? [];
  return (
    <Card>
      <CardTitle component="h2">Recovery plans of this site</CardTitle>
      <CardBody>
        {plans.length === 0 ? (
          <p className="subtle">This site has no recovery plan yet.</p>
        ) : (
          <table className="pf-v6-c-table pf-m-compact pf-m-grid-md">
            <thead className="pf-v6-c-table__thead">
              <tr className="pf-v6-c-table__tr">
                {['Plan', 'Now', 'Would lose', 'Would take', 'Last proven'].map((word) => (
                  <th key={word} className="pf-v6-c-table__th" scope="col">
                    {word}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody className="pf-v6-c-table__tbody">
              {plans.map((plan) => (
                <tr key={plan.plan_id} className="pf-v6-c-table__tr">
                  <td className="pf-v6-c-table__td" data-label="Plan">
                    <Link to={addresses.plan(plan.plan)}>{plan.plan}</Link>
                  </td>
                  <td className="pf-v6-c-table__td" data-label="Now">
                    <Label isCompact variant="outline" status={plan.is_ready ? 'success' : 'danger'}>
                      {plan.is_ready ? 'Ready' : 'Not ready'}
                    </Label>
                  </td>
                  <td className="pf-v6-c-table__td number" data-label="Would lose">
                    {plan.predicted_rpo_ms === null ? 'not known' : `at most ${span(plan.predicted_rpo_ms)}`}
                  </td>
                  <td className="pf-v6-c-table__td number" data-label="Would take">
                    {plan.predicted_rto_ms === null
                      ? 'not known before a test'
                      : `about ${span(plan.predicted_rto_ms)}`}
                  </td>
                  <td className="pf-v6-c-table__td number" data-label="Last proven">
                    {plan.proven_ms === null
                      ? 'never as a whole'
                      : `${span(Math.max(0, nowMs - plan.proven_ms))} ago`}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
      </CardBody>
    </Card>
  );
}
