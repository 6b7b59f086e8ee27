/** A new user, or other roles for a known one. */
import { Checkbox, Form } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { User } from '#/api/types.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { TextField } from '#/shared/text-field.tsx';
import { GrantsField, type Grants } from './grants-field.tsx';
import type { Once } from './once-dialog.tsx';

/** As the manager has it: checked here so that nothing wrong is sent. */
export const USER_NAME = /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}$/;

export function UserDialog(props: {
  user?: User | undefined;
  onClose: () => void;
  onOnce: (once: Once) => void;
}) {
  const { onClose, onOnce, user } = props;
  const [name, setName] = useState('');
  const [isBreakGlass, setBreakGlass] = useState(false);
  const known = user?.grants.map(({ group_id: group, role }) => ({ role, group }));
  const [grants, setGrants] = useState<Grants>(known ?? [{ role: 'read-only' }]);
  const wrong =
    name !== '' && !USER_NAME.test(name) ? 'Letters, digits and . _ @ + - only, without spaces.' : undefined;
  const add = async (reason: string) => {
    const body = { name, grants, ...(isBreakGlass ? { is_break_glass: true } : {}) };
    const { password } = await call('POST /api/v1/users', { body, reason });
    onOnce({
      title: `The password of ${name}`,
      says: `${name} signs in with it, and may choose another one after that.`,
      secret: password ?? '',
    });
  };
  const change = async (reason: string) => {
    await call('POST /api/v1/users/{name}/grants', {
      params: { name: user!.name },
      body: { grants },
      reason,
    });
  };
  return (
    <ConfirmDialog
      title={user === undefined ? 'Add a user' : `Roles of ${user.name}`}
      action={user === undefined ? 'Add' : 'Save'}
      whyNot={user === undefined && name === '' ? 'A name is needed.' : wrong}
      asksReason
      onClose={onClose}
      onConfirm={user === undefined ? add : change}
    >
      <Form onSubmit={(event) => event.preventDefault()}>
        {user === undefined && (
          <TextField
            id="user-name"
            label="Name"
            value={name}
            wrong={wrong}
            help="To sign in with. A password is made up, and shown once."
            isRequired
            autoComplete="off"
            onChange={setName}
          />
        )}
        <GrantsField grants={grants} onChange={setGrants} />
        {user === undefined && (
          <Checkbox
            id="break-glass"
            label="For when the provider of identities is down: each use raises an alarm"
            isChecked={isBreakGlass}
            onChange={(_event, checked) => setBreakGlass(checked)}
          />
        )}
      </Form>
    </ConfirmDialog>
  );
}
