/** What can be begun with a plan; what cannot says why. */
import { useState } from 'react';
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import type { Run, RunKind } from '#/api/types.ts';
import { ReprotectRunDialog } from '#/runs/reprotect-run-dialog.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { canMoveRun, canStartRun } from '#/shared/what-may-be-done.ts';
import { StartRunDialog } from './start-run-dialog.tsx';

/** `runs` are those of the plan, the newest first. */
export function PlanActions({ plan, runs }: { plan: string; runs: readonly Run[] }) {
  const navigate = useNavigate();
  const [asked, setAsked] = useState<RunKind | 'reprotect'>();
  const close = () => setAsked(undefined);
  // As the manager chooses it: a test moves nothing, and what was taken back has moved nothing.
  const moved = runs.find((run) => run.kind !== 'test' && run.state !== 'cleaned');
  return (
    <>
      <ActionButton name="Edit…" variant="link" onClick={() => void navigate(addresses.planForm(plan))} />
      <ActionButton
        name="Test…"
        variant="primary"
        whyNot={canStartRun('test', plan, runs)}
        onClick={() => setAsked('test')}
      />
      <ActionButton
        name="Migrate…"
        whyNot={canStartRun('migration', plan, runs)}
        onClick={() => setAsked('migration')}
      />
      <ActionButton
        name="Recover…"
        variant="danger"
        whyNot={canStartRun('disaster', plan, runs)}
        onClick={() => setAsked('disaster')}
      />
      <ActionButton
        name="Reprotect…"
        whyNot={moved === undefined ? 'It has moved no VMs here yet.' : canMoveRun('reprotect', moved)}
        onClick={() => setAsked('reprotect')}
      />
      {asked === 'reprotect' && moved !== undefined && (
        <ReprotectRunDialog plan={plan} runId={moved.id} onClose={close} />
      )}
      {asked !== undefined && asked !== 'reprotect' && (
        <StartRunDialog plan={plan} kind={asked} onClose={close} />
      )}
    </>
  );
}
