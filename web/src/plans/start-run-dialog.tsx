/** Starts a run of a plan. What speaks against it, and how old each VM would come up, is asked before. */
import { Alert, Form, Skeleton } from '@patternfly/react-core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useNavigate } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { Body, Reply, RunKind } from '#/api/types.ts';
import { plural, setSpan, span } from '#/lib/format.ts';
import { serverNow } from '#/lib/now.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { PlainTable } from '#/shared/plain-table.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { TextField } from '#/shared/text-field.tsx';
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

export function StartRunDialog(props: {
  plan: string;
  kind: RunKind;
  /** Of a failback: where the VMs are, when several sites have VMs by a plan of that name. */
  site?: string;
  onClose: () => void;
}) {
  const { kind, onClose, plan } = props;
  const navigate = useNavigate();
  const [moment, setMoment] = useState('');
  const atMs = moment === '' ? undefined : Date.parse(moment);
  const wrong = wrongMoment(atMs);
  const body = bodyOf(props, wrong === undefined ? atMs : undefined);
  const check = useQuery({
    queryKey: ['POST /api/v1/runs/check', body],
    queryFn: ({ signal }) => call('POST /api/v1/runs/check', { body, signal }),
    gcTime: 0,
  });
  const start = async (reason: string) => {
    const run = await call('POST /api/v1/runs', { body, reason });
    await navigate(addresses.run(run.id));
  };
  const isSure = check.data?.is_possible === true;
  return (
    <ConfirmDialog
      title={`${RUN_WORDS[kind]} of ${plan}`}
      action={kind === 'test' ? 'Start the test' : 'Start'}
      isDangerous={kind !== 'test'}
      whyNot={wrong ?? (isSure ? undefined : 'It cannot be started as things are.')}
      typed={kind === 'test' ? undefined : { what: 'the plan', name: plan }}
      asksReason
      onClose={onClose}
      onConfirm={start}
    >
      <p>{SAYS[kind]}</p>
      {(kind === 'test' || kind === 'disaster') && (
        <Form className="card-actions">
          <TextField
            id="run-moment"
            label="From the points of this moment"
            type="datetime-local"
            value={moment}
            wrong={wrong}
            help="Empty takes the newest point of each VM."
            onChange={setMoment}
          />
        </Form>
      )}
      <ProblemAlert error={check.error} />
      {check.data === undefined && check.error === null && <Skeleton screenreaderText="Being checked" />}
      {check.data !== undefined && <Checked check={check.data} />}
    </ConfirmDialog>
  );
}

function bodyOf(
  { kind, plan, site = '' }: { plan: string; kind: RunKind; site?: string },
  atMs: number | undefined,
): Body<'POST /api/v1/runs'> {
  return { plan, kind, ...(site === '' ? {} : { site }), ...(atMs === undefined ? {} : { at_ms: atMs }) };
}

function wrongMoment(atMs: number | undefined): string | undefined {
  if (atMs === undefined) return undefined;
  if (!Number.isSafeInteger(atMs) || atMs < 0) return 'That is no moment.';
  return atMs > serverNow() ? 'That moment has not come yet.' : undefined;
}

function Checked({ check }: { check: Reply<'POST /api/v1/runs/check'> }) {
  return (
    <>
      {check.refusals.map((refusal) => (
        <Alert key={refusal.message} variant="danger" isInline isPlain title={refusal.message}>
          {refusal.hint}
        </Alert>
      ))}
      {check.warnings.map((warning) => (
        <Alert key={warning} variant="warning" isInline isPlain title={warning} />
      ))}
      <p>
        {check.kind === 'disaster' ? lossText(check.vms) : `${plural(check.vms.length, 'VM')} would come up:`}
      </p>
      <PlainTable
        columns={['VM', 'Priority', 'Age of its point', 'RPO', 'Where it runs']}
        rows={check.vms.map((vm) => [
          vm.vm_name,
          vm.priority,
          vm.age_ms === null ? 'no point' : span(vm.age_ms),
          setSpan(vm.rpo_ms),
          vm.source,
        ])}
      />
    </>
  );
}

/** What would be lost, in one sentence, before anybody types a name. */
function lossText(vms: Reply<'POST /api/v1/runs/check'>['vms']): string {
  const many = `${plural(vms.length, 'VM')} would come up`;
  const oldest = vms.toSorted((a, b) => (b.age_ms ?? Infinity) - (a.age_ms ?? Infinity))[0];
  if (oldest === undefined) return `${many}.`;
  return oldest.age_ms === null
    ? `${many}. ${oldest.vm_name} has no point that could be taken.`
    : `${many}. The oldest point is ${span(oldest.age_ms)} old, of ${oldest.vm_name}: what was written since is lost.`;
}
