/** The first administrator of a site chooses a name and a password. */
import { ActionGroup, Alert, Button, Form } from '@patternfly/react-core';
import { useState, type FormEvent } from 'react';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import { TextField } from '#/shared/text-field.tsx';
import { ChoosePassword, wrongPassword } from './choose-password.tsx';

/** As the manager has it: checked here so that nothing wrong is sent. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$/;

export function FirstForm() {
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');
  const [again, setAgain] = useState('');
  const [failure, setFailure] = useState<string>();
  const wrong = {
    name: name !== '' && !NAME.test(name) ? 'Letters, digits and . _ @ + - only, without spaces.' : undefined,
    password: wrongPassword(password, name),
  };
  const isReady =
    name !== '' &&
    password !== '' &&
    again === password &&
    wrong.name === undefined &&
    wrong.password === undefined;
  const make = async (event: FormEvent) => {
    event.preventDefault();
    if (!isReady) return;
    try {
      const token = window.location.hash.slice(1);
      await call('POST /api/v1/first-administrator', { body: { token, name, password } });
      // Begins anew, signed in: the address with the token belongs in no history.
      window.location.replace(addresses.overview);
    } catch (error) {
      setFailure(error instanceof Error ? error.message : String(error));
    }
  };
  return (
    <Form onSubmit={(event) => void make(event)}>
      <p>You are the first here. Choose who you are; you will be this site&apos;s administrator.</p>
      {failure !== undefined && <Alert variant="danger" isInline title={failure} />}
      <TextField
        id="first-name"
        label="Name"
        value={name}
        wrong={wrong.name}
        onChange={setName}
        autoComplete="username"
      />
      <ChoosePassword
        name={name}
        password={password}
        again={again}
        onPassword={setPassword}
        onAgain={setAgain}
      />
      <ActionGroup>
        <Button type="submit" isDisabled={!isReady}>
          Become administrator
        </Button>
      </ActionGroup>
    </Form>
  );
}
