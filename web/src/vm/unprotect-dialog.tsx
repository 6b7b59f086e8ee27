/** Asks before a VM is no longer protected. */
import { Checkbox } from '@patternfly/react-core';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { VmStatus } from '#/api/types.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';

export function UnprotectDialog({ status, onClose }: { status: VmStatus; onClose: () => void }) {
  const [isDelete, setDelete] = useState(false);
  return (
    <ConfirmDialog
      title={`Stop protecting ${status.vm_name}?`}
      action="Stop protecting"
      isDangerous
      onClose={onClose}
      asksReason
      onConfirm={(reason) =>
        call('DELETE /api/v1/protections/{id}', {
          params: { id: status.protection_id ?? '' },
          query: { delete_replica: isDelete },
          reason,
        })
      }
    >
      <p>
        {status.vm_name} runs on at {status.protected_site}. No further recovery points are made at{' '}
        {status.recovery_site}.
      </p>
      <Checkbox
        id="delete-replica"
        label={`Delete its replica and all its recovery points at ${status.recovery_site}, too`}
        isChecked={isDelete}
        onChange={(_event, checked) => setDelete(checked)}
      />
    </ConfirmDialog>
  );
}
