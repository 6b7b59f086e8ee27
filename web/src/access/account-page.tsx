/** One's own: roles, password, sessions. */
import {
  ActionGroup,
  Alert,
  Button,
  Card,
  CardBody,
  CardTitle,
  Form,
  PageSection,
} from '@patternfly/react-core';
import { useState, type FormEvent } from 'react';
import { call } from '#/api/call.ts';
import { me } from '#/api/session.ts';
import { wrongPassword } from '#/login/choose-password.tsx';
import { PageHead } from '#/shell/page-head.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { TextField } from '#/shared/text-field.tsx';
import { useGrantWords } from './grants-field.tsx';
import { SessionsCard } from './sessions-card.tsx';

export function AccountPage() {
  const words = useGrantWords();
  const own = me();
  return (
    <>
      <PageHead title="My account" />
      <PageSection hasBodyWrapper={false} isFilled className="stack">
        <p className="lead">
          {own?.name}, as {words(own?.grants ?? []) || 'somebody without a role'}.
        </p>
        <PasswordCard name={own?.name ?? ''} />
        <SessionsCard name={own?.name} />
      </PageSection>
    </>
  );
}

function PasswordCard({ name }: { name: string }) {
  const [old, setOld] = useState('');
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [outcome, setOutcome] = useState<Error | 'done'>();
  const wrong = wrongPassword(password, name);
  const wrongAgain = again !== '' && again !== password ? 'It is not the same.' : undefined;
  const isReady = old !== '' && password !== '' && wrong === undefined && again === password;
  const change = async (event: FormEvent) => {
    event.preventDefault();
    if (!isReady) return;
    try {
      await call('POST /api/v1/password', { body: { old, password } });
      setOld('');
      setPassword('');
      setAgain('');
      setOutcome('done');
    } catch (error) {
      setOutcome(error instanceof Error ? error : new Error('it failed'));
    }
  };
  const field = { type: 'password' as const, autoComplete: 'new-password' };
  return (
    <Card>
      <CardTitle component="h2">Password</CardTitle>
      <CardBody>
        {outcome === 'done' && (
          <Alert variant="success" isInline title="It is changed, and your other sessions have ended." />
        )}
        <ProblemAlert error={outcome === 'done' ? undefined : outcome} />
        <Form isWidthLimited onSubmit={(event) => void change(event)}>
          <TextField
            id="old"
            label="Old password"
            {...field}
            autoComplete="current-password"
            value={old}
            onChange={setOld}
          />
          <TextField
            id="new"
            label="New password"
            {...field}
            value={password}
            wrong={wrong}
            onChange={setPassword}
          />
          <TextField
            id="again"
            label="New password again"
            {...field}
            value={again}
            wrong={wrongAgain}
            onChange={setAgain}
          />
          <ActionGroup>
            <Button type="submit" isDisabled={!isReady}>
              Change it
            </Button>
          </ActionGroup>
        </Form>
      </CardBody>
    </Card>
  );
}
