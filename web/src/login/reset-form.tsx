/** Whoever has the link that an administrator made chooses another password, once. */
import { ActionGroup, Alert, Button, Form } from '@patternfly/react-core';
import { useState, type FormEvent } from 'react';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import { ChoosePassword, wrongPassword } from './choose-password.tsx';

export function ResetForm() {
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [failure, setFailure] = useState<string>();
  const isReady = password !== '' && again === password && wrongPassword(password, '') === undefined;
  const choose = async (event: FormEvent) => {
    event.preventDefault();
    if (!isReady) return;
    try {
      const token = window.location.hash.slice(1);
      await call('POST /api/v1/password-reset', { body: { token, password } });
      // Begins anew, signed in: the address with the token belongs in no history.
      window.location.replace(addresses.overview);
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <Form onSubmit={(event) => void choose(event)}>
      <p>Choose another password. The one of before is good for nothing then.</p>
      {failure !== undefined && <Alert variant="danger" isInline title={failure} />}
      <ChoosePassword name="" password={password} again={again} onPassword={setPassword} onAgain={setAgain} />
      <ActionGroup>
        <Button type="submit" isDisabled={!isReady}>
          Choose it
        </Button>
      </ActionGroup>
    </Form>
  );
}
