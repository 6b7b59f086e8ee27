/** Starts a run of a plan. What speaks against it, and how old each VM would come up, is asked before. */
import { Alert, Skeleton } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { RunKind } from '#/api/types.ts';
import { plural, setSpan, span } from '#/lib/format.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { RUN_WORDS } from './words.ts';

const SAYS: Record<RunKind, string> = {
  test:
    'Copies of all its VMs come up here on networks of their own, in the order of the plan. ' +
    'The VMs run on where they are, and replication goes on. The cleanup removes the copies.',
  migration:
    'Its VMs are shut down where they run, their last changes are brought over and proven equal, ' +
    'and they start here. Nothing is lost; they are down meanwhile.',
  disaster:
    'Its VMs come up here from their newest recovery points, without the protected site. What they wrote ' +
    'after that is not there. If that site still runs them, their copies there are made to yield.',
  failback:
    'Its VMs go home: they are shut down where they were recovered, only what differs is brought over, ' +
    'and they start on their own networks there, protected as they were.',
};

export function StartRunDialog({
  kind,
  onClose,
  plan,
}: {
  plan: string;
  kind: RunKind;
  onClose: () => void;
}) {
  const navigate = useNavigate();
  const check = useQuery({
    queryKey: ['POST /api/v1/runs/check', plan, kind],
    queryFn: ({ signal }) => call('POST /api/v1/runs/check', { body: { plan, kind }, signal }),
    gcTime: 0,
  });
  const refusals = check.data?.refusals ?? [];
  const start = async () => {
    const run = await call('POST /api/v1/runs', { body: { plan, kind } });
    await navigate(addresses.run(run.id));
  };
  return (
    <ConfirmDialog
      title={`${RUN_WORDS[kind]} of ${plan}`}
      action={kind === 'test' ? 'Start the test' : 'Start'}
      isDangerous={kind !== 'test'}
      whyNot={check.data?.is_possible === true ? undefined : 'It cannot be started as things are.'}
      onClose={onClose}
      onConfirm={start}
    >
      <p>{SAYS[kind]}</p>
      <ProblemAlert error={check.error} />
      {check.data === undefined && check.error === null && <Skeleton screenreaderText="Being checked" />}
      {refusals.map((refusal) => (
        <Alert key={refusal.message} variant="danger" isInline isPlain title={refusal.message}>
          {refusal.hint}
        </Alert>
      ))}
      {(check.data?.warnings ?? []).map((warning) => (
        <Alert key={warning} variant="warning" isInline isPlain title={warning} />
      ))}
      {check.data !== undefined && (
        <>
          <p>{plural(check.data.vms.length, 'VM')} would come up:</p>
          <PlainTable
            columns={['VM', 'Priority', 'Age of its newest point', 'RPO', 'Where it runs']}
            rows={check.data.vms.map((vm) => [
              vm.vm_name,
              vm.priority,
              vm.age_ms === null ? 'no point' : span(vm.age_ms),
              setSpan(vm.rpo_ms),
              vm.source,
            ])}
          />
        </>
      )}
    </ConfirmDialog>
  );
}
