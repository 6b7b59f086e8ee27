/** What the manager said when it refused, with the way out. */
import { Alert } from '@patternfly/react-core';
import { Refused } from '#/api/call.ts';

export function ProblemAlert({ error, title }: { error: Error | null | undefined; title?: string }) {
  if (error === null || error === undefined) return null;
  const { message } = error;
  const hint = error instanceof Refused ? error.problem.hint : null;
  return (
    <Alert variant="danger" isInline title={title ?? message}>
      {title !== undefined && <p>{message}</p>}
      {hint !== null && <p>{hint}</p>}
    </Alert>
  );
}
