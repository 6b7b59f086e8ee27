/** Protects what a run has brought up back to where it came from; says how each VM stands before and after. */
import { Skeleton } from '@patternfly/react-core';
import { useQueryClient } from '@tanstack/react-query';
import { call } from '#/api/call.ts';
import type { Reply } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { setSpan } from '#/lib/format.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';

type Standing = Reply<'GET /api/v1/runs/{id}/reprotection'>['vms'][number];

/** Where it comes from on the page of a plan, the newest run is meant that was no test. */
export function ReprotectRunDialog({
  onClose,
  plan,
  runId,
}: {
  plan: string;
  runId: string;
  onClose: () => void;
}) {
  const queries = useQueryClient();
  const { data, error } = useRunReprotection(runId);
  const waiting = (data?.vms ?? []).filter((vm) => vm.state === 'unprotected');
  const start = async (reason: string) => {
    await call('POST /api/v1/runs/{id}/reprotection', { params: { id: runId }, reason });
    await queries.invalidateQueries({ queryKey: ['GET /api/v1/runs/{id}/reprotection'] });
  };
  return (
    <ConfirmDialog
      title={`Reprotect ${plan}?`}
      action="Reprotect"
      asksReason
      whyNot={waiting.length === 0 ? 'No VM of it waits for that.' : undefined}
      onClose={onClose}
      onConfirm={start}
    >
      <p>
        Every VM that it brought up here is protected back to the site that it came from, in deltas against
        its old copy there. A copy that is paused there is ended for it: its memory is lost, its disks become
        a recovery point.
      </p>
      <ProblemAlert error={error} />
      {data === undefined && error === null && <Skeleton screenreaderText="Asking the manager" />}
      {data !== undefined && <ReprotectionTable vms={data.vms} />}
      {data !== undefined && waiting.length === 0 && <p>No VM of it waits for that.</p>}
    </ConfirmDialog>
  );
}

export function useRunReprotection(runId: string, isEnabled = true) {
  return useCall('GET /api/v1/runs/{id}/reprotection', ['jobs', 'site', 'reports'], {
    params: { id: runId },
    isEnabled,
  });
}

export function ReprotectionTable({ vms }: { vms: readonly Standing[] }) {
  return (
    <PlainTable
      label="How the VMs are protected back"
      columns={['VM', 'Back to', 'RPO', 'How it stands']}
      rows={vms.map((vm) => [
        vm.vm_name,
        vm.site_name,
        vm.rpo_ms === null ? '' : setSpan(vm.rpo_ms),
        <span key="state">
          {STATES[vm.state]}
          {vm.failure !== null && <span className="icon-error"> {vm.failure.message}</span>}
          {vm.failure !== null && vm.failure.hint !== null && (
            <span className="subtle"> {vm.failure.hint}</span>
          )}
        </span>,
      ])}
    />
  );
}

const STATES: Record<Standing['state'], string> = {
  not_here: 'does not run here',
  recovering: 'its recovery has not come to its end',
  unprotected: 'is not protected',
  requested: 'the other site is asked',
  seeding: 'the other site makes its old copy a recovery point first',
  active: 'is protected',
};
