/** Local users: added, given roles, locked, let choose another password. */
import { Button, Card, CardBody, CardHeader, CardTitle, Flex, Label } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import { me } from '#/api/session.ts';
import type { User } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { useGrantWords } from './grants-field.tsx';
import { OnceDialog, type Once } from './once-dialog.tsx';
import { UserDialog } from './user-dialog.tsx';

type Move = 'roles' | 'reset-link' | 'lock' | 'unlock' | 'delete';

export function UsersCard() {
  const nowMs = useNow();
  const words = useGrantWords();
  const { data, error, refetch } = useCall('GET /api/v1/users', ['site', 'events']);
  const [asked, setAsked] = useState<{ user?: User; move: Move | 'add' }>();
  const [once, setOnce] = useState<Once>();
  const close = () => {
    setAsked(undefined);
    void refetch();
  };
  const button = (user: User, name: string, move: Move) => (
    <Button
      variant="link"
      isInline
      aria-label={`${name} ${user.name}`}
      onClick={() => setAsked({ user, move })}
    >
      {name}
    </Button>
  );
  return (
    <Card>
      <CardHeader
        actions={{ actions: <ActionButton name="Add a user…" onClick={() => setAsked({ move: 'add' })} /> }}
      >
        <CardTitle component="h2">Users with a password here</CardTitle>
      </CardHeader>
      <CardBody>
        <ProblemAlert error={error} />
        <PlainTable
          label="Users"
          columns={['Name', 'Roles', 'State', 'Signed in', 'Change']}
          rows={(data?.items ?? []).map((user) => [
            user.name === me()?.name ? `${user.name} (you)` : user.name,
            words(user.grants),
            <StateOf key="state" user={user} />,
            user.signed_in_ms === null ? 'never' : moment(user.signed_in_ms, nowMs),
            <Flex key="moves" gap={{ default: 'gapSm' }}>
              {button(user, 'Roles', 'roles')}
              {button(user, 'Reset link', 'reset-link')}
              {user.is_locked ? button(user, 'Unlock', 'unlock') : button(user, 'Lock', 'lock')}
              {button(user, 'Delete', 'delete')}
            </Flex>,
          ])}
        />
      </CardBody>
      {asked?.move === 'add' && <UserDialog onClose={close} onOnce={setOnce} />}
      {asked?.move === 'roles' && <UserDialog user={asked.user} onClose={close} onOnce={setOnce} />}
      {asked?.user !== undefined && isPlain(asked.move) && (
        <MoveDialog user={asked.user} move={asked.move} onClose={close} onOnce={setOnce} />
      )}
      {once !== undefined && <OnceDialog once={once} onClose={() => setOnce(undefined)} />}
    </Card>
  );
}

type PlainMove = Exclude<Move, 'roles'>;
const isPlain = (move: Move | 'add'): move is PlainMove => move !== 'add' && move !== 'roles';

function StateOf({ user }: { user: User }) {
  if (user.is_locked)
    return (
      <Label isCompact variant="outline" status="danger">
        locked
      </Label>
    );
  return user.is_break_glass ? (
    <Label isCompact variant="outline" status="warning">
      break-glass
    </Label>
  ) : (
    <>may sign in</>
  );
}

const WORDS: Record<PlainMove, { title: string; action: string; says: string }> = {
  'reset-link': {
    title: 'Let choose another password',
    action: 'Make the link',
    says: 'A link is made at which another password is chosen, once, within a day. The old one is good until then.',
  },
  lock: { title: 'Lock', action: 'Lock', says: 'Nobody signs in by this name, and its sessions end now.' },
  unlock: {
    title: 'Unlock',
    action: 'Unlock',
    says: 'Its password is good again, with the roles of before.',
  },
  delete: {
    title: 'Delete',
    action: 'Delete',
    says: 'Its sessions end now. What it did stays in the audit log.',
  },
};

function MoveDialog(props: {
  user: User;
  move: PlainMove;
  onClose: () => void;
  onOnce: (once: Once) => void;
}) {
  const { move, onClose, onOnce, user } = props;
  const { action, says, title } = WORDS[move];
  const does = async (reason: string) => {
    const options = { params: { name: user.name }, reason };
    if (move === 'delete') return call('DELETE /api/v1/users/{name}', options);
    if (move === 'lock') return call('POST /api/v1/users/{name}/lock', options);
    if (move === 'unlock') return call('POST /api/v1/users/{name}/unlock', options);
    const { url } = await call('POST /api/v1/users/{name}/reset-link', options);
    return onOnce({
      title: `The link of ${user.name}`,
      says: `Give it to ${user.name}, by a way that others do not read.`,
      secret: url,
    });
  };
  return (
    <ConfirmDialog
      title={`${title}: ${user.name}?`}
      action={action}
      isDangerous={move === 'lock' || move === 'delete'}
      asksReason
      onClose={onClose}
      onConfirm={does}
    >
      <p>{says}</p>
    </ConfirmDialog>
  );
}
