/** Tokens of programs: made with roles and an end, shown once, revoked. */
import { Button, Card, CardBody, CardHeader, CardTitle, Form } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, parseSpan } from '#/lib/format.ts';
import { serverNow, useNow } from '#/lib/now.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { TextField } from '#/shared/text-field.tsx';
import { GrantsField, useGrantWords, type Grants } from './grants-field.tsx';
import { OnceDialog, type Once } from './once-dialog.tsx';

const NAME_MAX = 255;

export function TokensCard() {
  const nowMs = useNow();
  const words = useGrantWords();
  const { data, refetch } = useCall('GET /api/v1/tokens', ['site', 'events']);
  const [asked, setAsked] = useState<'add' | { id: string; name: string }>();
  const [once, setOnce] = useState<Once>();
  const close = () => {
    setAsked(undefined);
    void refetch();
  };
  return (
    <Card>
      <CardHeader
        actions={{ actions: <ActionButton name="Make a token…" onClick={() => setAsked('add')} /> }}
      >
        <CardTitle component="h2">Tokens of programs</CardTitle>
      </CardHeader>
      <CardBody>
        <PlainTable
          label="Tokens"
          columns={['Name', 'Roles', 'Since', 'Ends', 'Change']}
          none="There is none."
          rows={(data?.items ?? []).map((token) => [
            token.name,
            words(token.grants),
            moment(token.created_ms, nowMs),
            token.expires_ms === null ? 'when it is revoked' : moment(token.expires_ms, nowMs),
            <Button
              key="revoke"
              variant="link"
              isInline
              aria-label={`Revoke ${token.name}`}
              onClick={() => setAsked(token)}
            >
              Revoke
            </Button>,
          ])}
        />
      </CardBody>
      {asked === 'add' && <TokenDialog onClose={close} onOnce={setOnce} />}
      {asked !== undefined && asked !== 'add' && (
        <ConfirmDialog
          title={`Revoke the token ${asked.name}?`}
          action="Revoke"
          isDangerous
          asksReason
          onClose={close}
          onConfirm={(reason) => call('DELETE /api/v1/tokens/{id}', { params: { id: asked.id }, reason })}
        >
          <p>Programs that have it are refused from the next request on.</p>
        </ConfirmDialog>
      )}
      {once !== undefined && <OnceDialog once={once} onClose={() => setOnce(undefined)} />}
    </Card>
  );
}

function TokenDialog({ onClose, onOnce }: { onClose: () => void; onOnce: (once: Once) => void }) {
  const [name, setName] = useState('');
  const [end, setEnd] = useState('90 d');
  const [grants, setGrants] = useState<Grants>([{ role: 'read-only' }]);
  const lifeMs = end.trim() === '' ? undefined : parseSpan(end);
  const wrongName = name.length > NAME_MAX ? `At most ${NAME_MAX} characters.` : undefined;
  const wrongEnd =
    end.trim() !== '' && (lifeMs === undefined || lifeMs <= 0)
      ? 'A number and a unit, such as 90 d or 8 h.'
      : undefined;
  const make = async (reason: string) => {
    const body = { name, grants, ...(lifeMs === undefined ? {} : { expires_ms: serverNow() + lifeMs }) };
    const { token } = await call('POST /api/v1/tokens', { body, reason });
    onOnce({
      title: `The token ${name}`,
      says: 'A program sends it as: Authorization: Bearer TOKEN',
      secret: token,
    });
  };
  return (
    <ConfirmDialog
      title="Make a token"
      action="Make it"
      asksReason
      whyNot={name.trim() === '' ? 'A name is needed.' : (wrongName ?? wrongEnd)}
      onClose={onClose}
      onConfirm={make}
    >
      <Form onSubmit={(event) => event.preventDefault()}>
        <TextField
          id="token-name"
          label="Name"
          value={name}
          wrong={wrongName}
          help="Which program it is for."
          isRequired
          onChange={setName}
        />
        <GrantsField grants={grants} onChange={setGrants} />
        <TextField
          id="token-end"
          label="Good for"
          value={end}
          wrong={wrongEnd}
          help="Empty: until it is revoked. It changes no user, session or token, whatever its role."
          onChange={setEnd}
        />
      </Form>
    </ConfirmDialog>
  );
}
