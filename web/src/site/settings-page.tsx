/** Who may do what: users, sessions, tokens; and the networks and directories that become others here. */
import { Button, Card, CardBody, CardTitle, PageSection } from '@patternfly/react-core';
import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import { useCall } from '#/api/use-call.ts';
import { may } from '#/api/session.ts';
import { moment } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';

export function SettingsPage() {
  return (
    <>
      <PageHead title="Settings" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <Sessions />
        {may('access.manage') && <Users />}
        {may('access.manage') && <Tokens />}
        <Mappings />
      </PageSection>
    </>
  );
}

function Sessions() {
  const nowMs = useNow();
  const queries = useQueryClient();
  const [failure, setFailure] = useState<Error>();
  const { data } = useCall('GET /api/v1/sessions', ['site']);
  const end = async (id: string) => {
    try {
      await call('DELETE /api/v1/sessions/{id}', { params: { id } });
      await queries.invalidateQueries({ queryKey: ['GET /api/v1/sessions'] });
    } catch (error) {
      setFailure(error instanceof Error ? error : new Error('it failed'));
    }
  };
  return (
    <Card>
      <CardTitle component="h2">Sessions</CardTitle>
      <CardBody>
        <ProblemAlert error={failure} />
        <PlainTable
          columns={['Who', 'Since', 'Last seen', 'Ends', 'From', 'Browser', '']}
          rows={(data?.items ?? []).map((session) => [
            session.is_own ? `${session.name} (this one)` : session.name,
            moment(session.begun_ms, nowMs),
            moment(session.seen_ms, nowMs),
            moment(session.ends_ms, nowMs),
            session.address,
            <span key="agent" title={session.agent}>
              {session.agent.split(' ').at(-2) ?? session.agent}
            </span>,
            <Button key="end" variant="link" isInline onClick={() => void end(session.id)}>
              End
            </Button>,
          ])}
        />
      </CardBody>
    </Card>
  );
}

function Users() {
  const { data } = useCall('GET /api/v1/users', ['site']);
  return (
    <Card>
      <CardTitle component="h2">Users</CardTitle>
      <CardBody>
        <PlainTable
          columns={['Name', 'Roles']}
          rows={(data?.items ?? []).map((user) => [
            user.name,
            user.grants
              .map((grant) => (grant.group_id === null ? grant.role : `${grant.role} on ${grant.group_id}`))
              .join(', '),
          ])}
        />
        <p className="subtle">Users are added and changed with: antipode user</p>
      </CardBody>
    </Card>
  );
}

function Tokens() {
  const nowMs = useNow();
  const { data } = useCall('GET /api/v1/tokens', ['site']);
  return (
    <Card>
      <CardTitle component="h2">Tokens of programs</CardTitle>
      <CardBody>
        <PlainTable
          columns={['Name', 'Roles', 'Since', 'Ends']}
          none="There is none."
          rows={(data?.items ?? []).map((token) => [
            token.name,
            token.grants.map((grant) => grant.role).join(', '),
            moment(token.created_ms, nowMs),
            token.expires_ms === null ? 'when it is revoked' : moment(token.expires_ms, nowMs),
          ])}
        />
        <p className="subtle">Tokens are made and revoked with: antipode token</p>
      </CardBody>
    </Card>
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
