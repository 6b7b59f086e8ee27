/** What a plan's file would change, and what is found in it. */
import type { Reply } from '#/api/types.ts';
import { FindingsList } from './findings-list.tsx';

export function ChangesList({ reply }: { reply: Reply<'POST /api/v1/plan-files'> }) {
  const changes = reply.changes.filter((change) => change.change !== 'none');
  return (
    <>
      {changes.length === 0 && <p className="subtle">Nothing.</p>}
      {changes.map((change) => (
        <div key={`${change.kind} ${change.name}`}>
          <strong>
            {change.kind} {change.name}: {change.change}
          </strong>
          <ul>
            {change.details.map((detail) => (
              <li key={detail}>{detail}</li>
            ))}
          </ul>
        </div>
      ))}
      <FindingsList findings={[]} problems={reply.problems} />
    </>
  );
}
