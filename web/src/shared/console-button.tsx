/** Opens the screen of a VM that a recovery brought up here, or says why it cannot be. */
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import { ActionButton } from './action-button.tsx';
import type { WhyNot } from './what-may-be-done.ts';

export function ConsoleButton({ recoveryId, whyNot }: { recoveryId: string | null; whyNot: WhyNot }) {
  const navigate = useNavigate();
  return (
    <ActionButton
      name="Open console"
      whyNot={whyNot}
      onClick={() => {
        if (recoveryId !== null) void navigate(addresses.console(recoveryId));
      }}
    />
  );
}
