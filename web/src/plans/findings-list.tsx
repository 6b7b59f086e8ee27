/** What would keep a plan from coming up, or make it worse, with the way out and where it leads. */
import { List, ListItem } from '@patternfly/react-core';
import { Link } from 'react-router';
import { addressOf } from '#/addresses.ts';
import type { Finding } from '#/api/types.ts';
import { SEVERITY_ICONS } from '#/shared/severity-icons.tsx';

type PlanProblem = { readonly severity: string; readonly message: string; readonly hint: string | null };

export function FindingsList({
  findings,
  problems,
}: {
  findings: readonly Finding[];
  problems: readonly PlanProblem[];
}) {
  if (findings.length === 0 && problems.length === 0) return <p>Nothing speaks against it.</p>;
  return (
    <List isPlain>
      {findings.map((finding) => {
        const address = addressOf(finding.subject.kind, finding.subject.id);
        return (
          <ListItem
            key={`${finding.code} ${finding.subject.id} ${finding.text}`}
            icon={SEVERITY_ICONS[finding.severity]}
          >
            {address === undefined || finding.subject.kind === 'plan' ? (
              finding.text
            ) : (
              <Link to={address}>{finding.text}</Link>
            )}
            {finding.hint !== null && <div className="subtle">{finding.hint}</div>}
          </ListItem>
        );
      })}
      {problems.map((problem) => (
        <ListItem
          key={problem.message}
          icon={SEVERITY_ICONS[problem.severity === 'warning' ? 'warning' : 'error']}
        >
          {problem.message}
          {problem.hint !== null && <div className="subtle">{problem.hint}</div>}
        </ListItem>
      ))}
    </List>
  );
}
