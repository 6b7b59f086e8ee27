/** Sessions: one's own, or everybody's for administrators; each can be ended. */
import { Button, Card, CardBody, CardTitle } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import { signedOut } from '#/api/session.ts';
import type { Session } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';

/** `name`: of this person alone. */
export function SessionsCard({ name }: { name?: string | undefined }) {
  const nowMs = useNow();
  const { data, error, refetch } = useCall('GET /api/v1/sessions', ['site', 'events']);
  const [asked, setAsked] = useState<Session>();
  const sessions = (data?.items ?? []).filter((session) => name === undefined || session.name === name);
  const close = () => {
    setAsked(undefined);
    void refetch();
  };
  const end = async (session: Session, reason: string) => {
    await call('DELETE /api/v1/sessions/{id}', { params: { id: session.id }, reason });
    if (session.is_own) signedOut();
  };
  return (
    <Card>
      <CardTitle component="h2">Sessions</CardTitle>
      <CardBody>
        <ProblemAlert error={error} />
        <PlainTable
          label="Sessions"
          columns={['Who', 'Since', 'Last seen', 'Ends', 'From', 'Browser', 'Change']}
          rows={sessions.map((session) => [
            session.is_own ? `${session.name} (this one)` : session.name,
            moment(session.begun_ms, nowMs),
            moment(session.seen_ms, nowMs),
            moment(session.ends_ms, nowMs),
            session.address,
            <span key="agent" title={session.agent}>
              {session.agent.split(' ').at(-2) ?? session.agent}
            </span>,
            <Button
              key="end"
              variant="link"
              isInline
              aria-label={`End the session of ${session.name} from ${session.address}`}
              onClick={() => setAsked(session)}
            >
              End
            </Button>,
          ])}
        />
      </CardBody>
      {asked !== undefined && (
        <ConfirmDialog
          title={`End the session of ${asked.name}?`}
          action="End it"
          isDangerous
          asksReason
          onClose={close}
          onConfirm={(reason) => end(asked, reason)}
        >
          <p>
            {asked.is_own ? 'It is this one: you are signed out.' : `${asked.name} has to sign in again.`}
          </p>
        </ConfirmDialog>
      )}
    </Card>
  );
}
