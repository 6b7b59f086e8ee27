/** Name and password. */
import { ActionGroup, Alert, Button, Form, FormGroup, TextInput } from '@patternfly/react-core';
import { useState, type FormEvent } from 'react';
import { call } from '#/api/call.ts';
import { signedIn } from '#/api/session.ts';

export function SignInForm({ isNew }: { isNew: boolean }) {
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [failure, setFailure] = useState<string>();
  const [isBusy, setBusy] = useState(false);
  const isReady = name.trim() !== '' && password !== '';
  const enter = async (event: FormEvent) => {
    event.preventDefault();
    if (!isReady) return;
    setBusy(true);
    try {
      signedIn(await call('POST /api/v1/login', { body: { name: name.trim(), password } }));
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
      setBusy(false);
    }
  };
  return (
    <Form onSubmit={(event) => void enter(event)}>
      {isNew && (
        <Alert variant="info" isInline title="Nobody can sign in here yet">
          As root on the manager, antipode admin first-link prints the address at which the first
          administrator is made.
        </Alert>
      )}
      {failure !== undefined && <Alert variant="danger" isInline title={failure} />}
      <FormGroup label="Name" fieldId="name">
        <TextInput
          id="name"
          autoComplete="username"
          value={name}
          onChange={(_event, value) => setName(value)}
        />
      </FormGroup>
      <FormGroup label="Password" fieldId="password">
        <TextInput
          id="password"
          type="password"
          autoComplete="current-password"
          value={password}
          onChange={(_event, value) => setPassword(value)}
        />
      </FormGroup>
      <ActionGroup>
        <Button type="submit" isLoading={isBusy} isDisabled={isBusy || !isReady}>
          Sign in
        </Button>
      </ActionGroup>
    </Form>
  );
}
