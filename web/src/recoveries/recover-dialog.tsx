/** Brings a VM up from a moment: as a test beside it, for production, or planned. Says what will happen first. */
import { Alert, Checkbox, Form, FormGroup, FormSelect, FormSelectOption } from '@patternfly/react-core';
import { useState } from 'react';
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { Point, VmRow, VmStatus } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { moment, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { TextField } from '#/shared/text-field.tsx';

export type Purpose = 'test' | 'recovery' | 'migration';

const WORDS: Record<Purpose, { title: string; action: string }> = {
  test: { title: 'Test', action: 'Start the test' },
  recovery: { title: 'Recover', action: 'Recover' },
  migration: { title: 'Migrate', action: 'Migrate' },
};
/** As libvirt allows it. */
// oxlint-disable-next-line no-control-regex
const NAME = /^[^/\x00-\x1f]{1,255}$/;

export function RecoverDialog(props: {
  row: VmRow;
  status: VmStatus;
  /** Undefined is the newest there is by then. */
  point: Point | undefined;
  purpose: Purpose;
  /** It comes back to the site that it left. */
  isHome?: boolean;
  onClose: () => void;
}) {
  const { isHome = false, onClose, point, purpose, status } = props;
  const words =
    purpose === 'migration' && isHome ? { title: 'Fail back', action: 'Fail back' } : WORDS[purpose];
  const navigate = useNavigate();
  const [name, setName] = useState('');
  const [host, setHost] = useState('');
  const [isReprotect, setReprotect] = useState(isHome && purpose === 'migration');
  const [isForce, setForce] = useState(false);
  const hosts = useCall('GET /api/v1/hosts', ['site']);
  const wrongName =
    name !== '' && !NAME.test(name) ? 'A name has no slashes, and at most 255 characters.' : undefined;
  const start = async (reason: string) => {
    const recovery = await call('POST /api/v1/recoveries', {
      body: {
        vm: status.replica_id!,
        purpose,
        ...(point === undefined ? {} : { point: point.sequence }),
        ...(name === '' ? {} : { name }),
        ...(host === '' ? {} : { host_id: host }),
        ...(purpose === 'test' ? {} : { reprotect: isReprotect }),
        ...(isForce ? { force: true } : {}),
      },
      reason,
    });
    await navigate(addresses.recovery(recovery.id));
  };
  return (
    <ConfirmDialog
      title={`${words.title} ${status.vm_name}`}
      action={words.action}
      asksReason
      isDangerous={purpose !== 'test'}
      whyNot={wrongName}
      onClose={onClose}
      onConfirm={start}
    >
      <WhatHappens {...props} />
      <Form className="card-actions">
        <TextField
          id="recovered-name"
          label={`Name at ${status.recovery_site}`}
          placeholder={purpose === 'test' ? `${status.vm_name}-test` : status.vm_name}
          value={name}
          wrong={wrongName}
          onChange={setName}
        />
        <FormGroup label="Host" fieldId="recovered-host">
          <FormSelect id="recovered-host" value={host} onChange={(_event, value) => setHost(value)}>
            <FormSelectOption value="" label="Any that can" />
            {(hosts.data?.items ?? []).map((known) => (
              <FormSelectOption
                key={known.id}
                value={known.id}
                label={known.name}
                isDisabled={!known.is_alive}
              />
            ))}
          </FormSelect>
        </FormGroup>
        {purpose !== 'test' && (
          <Checkbox
            id="reprotect"
            label={`Protect it back to ${status.protected_site} once it is up, in deltas against its old copy there`}
            isChecked={isReprotect}
            onChange={(_event, checked) => setReprotect(checked)}
          />
        )}
        {purpose === 'recovery' && (
          <Checkbox
            id="force"
            label={`Even though it still runs at ${status.protected_site}: its copy there is made to yield`}
            isChecked={isForce}
            onChange={(_event, checked) => setForce(checked)}
          />
        )}
      </Form>
    </ConfirmDialog>
  );
}

function WhatHappens({
  point,
  purpose,
  status,
}: {
  point: Point | undefined;
  purpose: Purpose;
  status: VmStatus;
}) {
  const nowMs = useNow();
  const momentMs = point?.moment_ms ?? status.point?.moment_ms;
  if (momentMs === undefined) return null;
  const age = span(Math.max(0, nowMs - momentMs));
  const when =
    point === undefined ? `its newest recovery point, ${age} old` : `${moment(momentMs, nowMs)}, ${age} ago`;
  const { protected_site: there, recovery_site: here, vm_name: vm } = status;
  if (purpose === 'test') {
    return (
      <p>
        A copy of {vm} comes up at {here} from {when}, on a network of its own that reaches nothing. {vm} runs
        on at {there}, and its replication goes on. The cleanup removes the copy.
      </p>
    );
  }
  if (purpose === 'migration') {
    return (
      <p>
        {vm} is shut down at {there}, its last changes are brought over and proven equal, and it starts at{' '}
        {here}. If anything fails before that, it starts at {there} again. Nothing is lost; it is down
        meanwhile.
      </p>
    );
  }
  return (
    <Alert variant="warning" isInline isPlain title={`${vm} comes up at ${here} from ${when}.`}>
      Whatever it wrote after that moment is not there. From then on it runs at {here}, and its copy at{' '}
      {there} may not.
    </Alert>
  );
}
