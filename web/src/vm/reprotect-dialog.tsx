/** Protects a VM that was recovered here back to the site that it came from. */
import { Form } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { VmStatus } from '#/api/types.ts';
import { parseSpan, setSpan } from '#/lib/format.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { TextField } from '#/shared/text-field.tsx';

export function ReprotectDialog({ status, onClose }: { status: VmStatus; onClose: () => void }) {
  const [text, setText] = useState(setSpan(status.rpo_ms));
  const rpoMs = parseSpan(text);
  const wrong =
    rpoMs === undefined || rpoMs < 1000 ? 'A number and a unit, such as 5 s or 15 min.' : undefined;
  const { protected_site: there, recovery_site: here, vm_name: vm } = status;
  return (
    <ConfirmDialog
      title={`Reprotect ${vm}?`}
      action="Reprotect"
      asksReason
      whyNot={wrong}
      onClose={onClose}
      onConfirm={(reason) =>
        call('POST /api/v1/reprotections', {
          body: { vm: status.vm_uuid, ...(rpoMs === undefined ? {} : { rpo_ms: rpoMs }) },
          reason,
        })
      }
    >
      <p>
        {vm} runs at {here}. From now on {there} keeps its replica, and only what differs from its old copy
        there is sent. A copy that is paused there is ended for it: its memory is lost, its disks become a
        recovery point.
      </p>
      <Form className="card-actions" onSubmit={(event) => event.preventDefault()}>
        <TextField id="reprotect-rpo" label="RPO" value={text} wrong={wrong} onChange={setText} />
      </Form>
    </ConfirmDialog>
  );
}
