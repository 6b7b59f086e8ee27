/**
 * How a VM is protected, changed in place. What it comes to and what it costs is asked while one types, and stands
 * there before anything is sent; points that would go for ever are confirmed by the VM's name.
 */
import {
  Alert,
  Checkbox,
  Form,
  FormGroup,
  FormSelect,
  FormSelectOption,
  Spinner,
} from '@patternfly/react-core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { call } from '#/api/call.ts';
import type { Protection, ProtectionChange, Reply, Vm } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { parseSpan, plural, setSpan } from '#/lib/format.ts';
import { useSettled } from '#/lib/use-settled.ts';
import { RETENTIONS, rpoWrong, type Retention } from '#/protect/choice.ts';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { retentionText } from '#/shared/retention.ts';
import { TextField } from '#/shared/text-field.tsx';

type Disk = Vm['disks'][number];
type Check = Reply<'POST /api/v1/protections/{id}/check'>;

export function ChangeDialog({ protection, onClose }: { protection: Protection; onClose: () => void }) {
  const queries = useQueryClient();
  // As it was when it was opened: a change that somebody else makes meanwhile is refused, not overwritten.
  const [before] = useState(protection);
  const vm = useCall('GET /api/v1/vms/{id}', ['site'], { params: { id: before.vm_uuid } });
  const form = useForm(before, vm.data?.disks ?? []);
  const settled = useSettled(form.change);
  const check = useCheck(before.id, settled);
  const [typed, setTyped] = useState('');
  const lost = check.data?.points_lost?.count ?? 0;
  const isSettled = settled === form.change && check.data !== undefined;
  return (
    <ConfirmDialog
      title={`Change how ${before.vm_name} is protected`}
      action="Change"
      isDangerous={lost > 0}
      whyNot={whyNot({ form, isSettled, check: check.data, isTyped: lost === 0 || typed === before.vm_name })}
      onClose={onClose}
      onConfirm={async () => {
        const params = { id: before.id };
        await call('POST /api/v1/protections/{id}', { params, body: form.change! });
        await queries.invalidateQueries({ predicate: ({ meta }) => meta !== undefined });
      }}
    >
      <Form onSubmit={(event) => event.preventDefault()}>
        <TextField
          id="change-rpo"
          label="RPO"
          help="How old the newest recovery point may ever be: 5 s, 15 min, 1 h."
          value={form.rpo}
          wrong={rpoWrong(form.rpo, parseSpan(form.rpo))}
          onChange={form.setRpo}
        />
        <FormGroup label="Points kept" fieldId="change-kept">
          <FormSelect
            id="change-kept"
            value={form.kept}
            onChange={(_event, value) => form.setKept(Number(value))}
          >
            {form.retentions.map((retention, index) => (
              <FormSelectOption
                key={retentionText(retention)}
                value={index}
                label={retentionText(retention)}
              />
            ))}
          </FormSelect>
        </FormGroup>
        <DisksField form={form} disks={vm.data?.disks ?? []} />
        <Checkbox
          id="change-added"
          label="Replicate disks that are added later"
          isChecked={form.isAdding}
          onChange={(_event, isChecked) => form.setAdding(isChecked)}
        />
      </Form>
      <ProblemAlert error={check.error} />
      <CheckText
        check={check.data}
        isPending={!isSettled && form.change !== undefined && check.error === null}
      />
      {lost > 0 && (
        <TextField
          id="change-typed"
          label={`${plural(lost, 'recovery point')} would go for ever. Type ${before.vm_name} if that is meant`}
          value={typed}
          onChange={setTyped}
        />
      )}
    </ConfirmDialog>
  );
}

type FormState = ReturnType<typeof useForm>;

function useForm(before: Protection, disks: readonly Disk[]) {
  const own: Retention = { keep_all_ms: before.retention.keep_all_ms, tiers: [...before.retention.tiers] };
  const others = RETENTIONS.map(({ retention }) => retention).filter((one) => !isSame(one, own));
  const retentions = [own, ...others];
  const was = new Set(before.disks.length === 0 ? disks.map(({ key }) => key) : before.disks);
  const [rpo, setRpo] = useState(setSpan(before.rpo_ms));
  const [kept, setKept] = useState(0);
  const [turned, setTurned] = useState<ReadonlySet<string>>(new Set());
  const [isAdding, setAdding] = useState(before.added_disks === 'replicate');
  const isChosen = (key: string) => was.has(key) !== turned.has(key);
  const chosen = disks.filter(({ key }) => isChosen(key)).map(({ key }) => key);
  const rpoMs = parseSpan(rpo);
  const isWhole = rpoWrong(rpo, rpoMs) === undefined && (disks.length === 0 || chosen.length > 0);
  const change: ProtectionChange | undefined =
    isWhole && rpoMs !== undefined
      ? {
          revision: before.revision,
          rpo_ms: rpoMs,
          ...(kept === 0 ? {} : { retention: retentions[kept]! }),
          ...(turned.size === 0 ? {} : { disks: chosen }),
          added_disks: isAdding ? 'replicate' : 'report',
        }
      : undefined;
  return {
    rpo,
    setRpo,
    retentions,
    kept,
    setKept,
    isChosen,
    turn: (key: string) => setTurned((now) => now.symmetricDifference(new Set([key]))),
    chosen,
    isAdding,
    setAdding,
    change,
  };
}

function useCheck(id: string, change: ProtectionChange | undefined) {
  return useQuery<Check, Error>({
    queryKey: ['POST /api/v1/protections/{id}/check', id, change],
    queryFn: ({ signal }) =>
      call('POST /api/v1/protections/{id}/check', { params: { id }, body: change!, signal }),
    enabled: change !== undefined,
    gcTime: 0,
    retry: false,
  });
}

function DisksField({ disks, form }: { disks: readonly Disk[]; form: FormState }) {
  if (disks.length === 0) return null;
  return (
    <FormGroup label="Disks" role="group">
      {disks.map((disk) => (
        <Checkbox
          key={disk.key}
          id={`change-disk-${disk.key}`}
          label={disk.key}
          description={disk.refusal ?? disk.path}
          isChecked={form.isChosen(disk.key)}
          onChange={() => form.turn(disk.key)}
        />
      ))}
      {form.chosen.length === 0 && <p className="icon-error">At least one disk has to be replicated.</p>}
    </FormGroup>
  );
}

function CheckText({ check, isPending }: { check: Check | undefined; isPending: boolean }) {
  if (isPending) return <Spinner size="sm" aria-label="Being checked" />;
  if (check === undefined) return null;
  if (check.changes.length === 0) return <p className="subtle">Nothing is changed yet.</p>;
  return (
    <Alert variant="info" isInline title="What it comes to">
      {[...check.changes, ...check.costs].map((line) => (
        <p key={line}>{line}</p>
      ))}
    </Alert>
  );
}

function whyNot(all: {
  form: FormState;
  isSettled: boolean;
  check: Check | undefined;
  isTyped: boolean;
}): string | undefined {
  if (all.form.change === undefined) return 'Something above is missing or wrong.';
  if (!all.isSettled || all.check === undefined) return 'It is being checked.';
  if (all.check.changes.length === 0) return 'Nothing is changed.';
  return all.isTyped ? undefined : 'Points would go for ever.';
}

function isSame(a: Retention, b: Retention): boolean {
  return retentionText(a) === retentionText(b);
}
