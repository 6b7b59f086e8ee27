/** What can be done with a run as a whole, each with the dialog that says what it comes to. */
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { Run } from '#/api/types.ts';
import { RUN_WORDS } from '#/plans/words.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { canMoveRun } from '#/shared/what-may-be-done.ts';
import { ReprotectRunDialog } from './reprotect-run-dialog.tsx';

type Asked = 'cancel' | 'cleanup' | 'resume' | 'reprotect';

export function RunActions({ run }: { run: Run }) {
  const [asked, setAsked] = useState<Asked>();
  const close = () => setAsked(undefined);
  const isTest = run.kind === 'test';
  return (
    <>
      <ActionButton name="Cancel…" whyNot={canMoveRun('cancel', run)} onClick={() => setAsked('cancel')} />
      <ActionButton name="Resume…" whyNot={canMoveRun('resume', run)} onClick={() => setAsked('resume')} />
      {isTest ? (
        <ActionButton
          name="Clean up…"
          variant={run.state === 'ready' ? 'primary' : 'secondary'}
          whyNot={canMoveRun('cleanup', run)}
          onClick={() => setAsked('cleanup')}
        />
      ) : (
        <ActionButton
          name="Reprotect…"
          variant={run.state === 'done' ? 'primary' : 'secondary'}
          whyNot={canMoveRun('reprotect', run)}
          onClick={() => setAsked('reprotect')}
        />
      )}
      {asked === 'reprotect' && <ReprotectRunDialog plan={run.plan} runId={run.id} onClose={close} />}
      {asked !== undefined && asked !== 'reprotect' && <MoveDialog run={run} move={asked} onClose={close} />}
    </>
  );
}

function MoveDialog({
  move,
  onClose,
  run,
}: {
  run: Run;
  move: 'cancel' | 'cleanup' | 'resume';
  onClose: () => void;
}) {
  const { action, title } = WORDS[move];
  const does = async (reason: string) => {
    const options = { params: { id: run.id }, reason };
    if (move === 'cancel') await call('POST /api/v1/runs/{id}/cancel', options);
    else if (move === 'cleanup') await call('POST /api/v1/runs/{id}/cleanup', options);
    else await call('POST /api/v1/runs/{id}/resume', options);
  };
  return (
    <ConfirmDialog
      title={`${title} the ${RUN_WORDS[run.kind].toLowerCase()} of ${run.plan}?`}
      action={action}
      isDangerous={move === 'cancel' || (move === 'resume' && run.kind !== 'test')}
      asksReason
      onClose={onClose}
      onConfirm={does}
    >
      <p>{move === 'cancel' ? CANCEL_SAYS[run.kind] : SAYS[move]}</p>
    </ConfirmDialog>
  );
}

const WORDS = {
  cancel: { title: 'Cancel', action: 'Cancel the run' },
  cleanup: { title: 'Clean up', action: 'Clean up' },
  resume: { title: 'Resume', action: 'Resume' },
} as const;

const SAYS = {
  cleanup: 'The copies that it made are removed, with everything that was done in them. The VMs run on.',
  resume: 'What failed or was left out is tried again; what is done is not done twice.',
} as const;

const TAKEN_BACK =
  'What was shut down is started again where it was. Once a VM has begun to come up here, that is no longer possible.';
const CANCEL_SAYS: Record<Run['kind'], string> = {
  test: 'The copies that it made are removed.',
  migration: TAKEN_BACK,
  disaster: 'It stops where it is. What runs here stays, and the run can be resumed.',
  failback: TAKEN_BACK,
};
