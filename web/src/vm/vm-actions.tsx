/** What can be done with a VM as a whole; what cannot says why. */
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { VmRow } from '#/api/types.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConsoleButton } from '#/shared/console-button.tsx';
import { canOpenConsoleHere, canProtect } from '#/shared/what-may-be-done.ts';

export function VmActions({ row }: { row: VmRow }) {
  const navigate = useNavigate();
  return (
    <>
      <ConsoleButton recoveryId={row.recovery_id} whyNot={canOpenConsoleHere(row)} />
      <ActionButton
        name="Protect…"
        whyNot={canProtect(row)}
        onClick={() => void navigate(addresses.protect([row.vm_name]))}
      />
    </>
  );
}
