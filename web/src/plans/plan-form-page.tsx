/**
 * The order of a plan in a form: priorities, dependencies, start and health of each VM, with the picture that follows.
 * The file is the other face: what is not in the form stays as it is, and both look at the same text.
 */
import {
  ActionGroup,
  Button,
  Card,
  CardBody,
  CardTitle,
  Form,
  Grid,
  GridItem,
  PageSection,
} from '@patternfly/react-core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { useLocation, useNavigate, useSearchParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import { call } from '#/api/call.ts';
import type { PlanFile, PlanVm } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ConfirmDialog } from '#/shared/confirm-dialog.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { canManage } from '#/shared/what-may-be-done.ts';
import { ChangesList } from './changes-list.tsx';
import { cycleIn } from './plan-order.ts';
import { PlanPicture } from './plan-picture.tsx';
import { VmFields, wrongHealth } from './vm-fields.tsx';

const TYPING_MS = 400;
const DEFAULT_PRIORITY = 3;

export function PlanFormPage() {
  const [search] = useSearchParams();
  const name = search.get('plan') ?? '';
  const params = { id: name };
  const given = (useLocation().state as { file?: PlanFile } | null)?.file;
  const file = useCall('GET /api/v1/plans/{id}/file', [], { params, isEnabled: given === undefined });
  const details = useCall('GET /api/v1/plans/{id}/details', ['site'], { params });
  const first = given ?? file.data;
  return (
    <>
      <PageHead
        title={`Edit ${name}`}
        crumbs={[
          ['Recovery plans', addresses.plans],
          [name, addresses.plan(name)],
        ]}
      />
      <PageSection hasBodyWrapper={false} isFilled>
        <ProblemAlert error={file.error ?? details.error} />
        {first !== undefined && details.data !== undefined && (
          <PlanForm
            first={first}
            members={details.data.vms.map((vm) => ({ uuid: vm.vm_uuid, name: vm.vm_name }))}
          />
        )}
      </PageSection>
    </>
  );
}

type Member = { uuid: string; name: string };

function PlanForm({ first, members }: { first: PlanFile; members: readonly Member[] }) {
  const navigate = useNavigate();
  const queries = useQueryClient();
  const [file, setFile] = useState(first);
  const [settled, setSettled] = useState(first);
  const [isSaving, setSaving] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(file), TYPING_MS);
    return () => clearTimeout(timer);
  }, [file]);
  const name = first.plan.name;
  const vms = members.map((member) => settingsOf(file, member, members));
  const cycle = cycleIn(vms.map((vm) => ({ name: vm.name, dependsOn: vm.dependsOn })));
  const wrong =
    cycle === undefined
      ? vms.map((vm) => wrongHealth(vm.settings)).find((one) => one !== undefined)
      : `These wait for each other: ${cycle.join(' after ')}.`;
  const look = useQuery({
    queryKey: ['POST /api/v1/plan-files', settled],
    queryFn: ({ signal }) =>
      call('POST /api/v1/plan-files', { body: { file: settled, apply: false }, signal }),
    // Of what was typed last alone: what is wrong is not sent, nor is what was wrong a moment ago.
    enabled: wrong === undefined && file === settled,
    gcTime: 0,
  });
  const put = (key: string, change: PlanVm) =>
    setFile({ ...file, plan: { ...file.plan, vms: { ...file.plan.vms, [key]: change } } });
  const isWrong = look.data?.problems.some((problem) => problem.severity === 'error') === true;
  const whyNot =
    wrong ??
    (file !== settled || look.data === undefined ? 'It is being checked.' : undefined) ??
    (isWrong ? 'What is found has to be put right first.' : undefined);
  return (
    <Grid hasGutter>
      <GridItem xl={7}>
        <Form onSubmit={(event) => event.preventDefault()}>
          {vms.map((vm) => (
            <VmFields
              key={vm.uuid}
              vm={vm}
              others={members.filter((other) => other.uuid !== vm.uuid).map((other) => other.name)}
              problems={
                cycle === undefined ? problemsAt(look.data?.problems ?? [], vm.key) : inCycle(cycle, vm.name)
              }
              onChange={(settings) => put(vm.key, settings)}
            />
          ))}
          <ActionGroup>
            <ActionButton
              name="Save…"
              variant="primary"
              whyNot={canManage('plan.manage') ?? whyNot}
              onClick={() => setSaving(true)}
            />
            <Button
              variant="secondary"
              onClick={() => void navigate(addresses.planFileOf(name), { state: { file } })}
            >
              As a file
            </Button>
            <Button variant="link" onClick={() => void navigate(addresses.plan(name))}>
              Cancel
            </Button>
          </ActionGroup>
        </Form>
      </GridItem>
      <GridItem xl={5} className="stack">
        <Card>
          <CardTitle component="h2">Order</CardTitle>
          <CardBody>
            <PlanPicture
              vms={vms.map((vm) => ({
                vm_uuid: vm.uuid,
                vm_name: vm.name,
                priority: vm.settings.priority ?? DEFAULT_PRIORITY,
                depends_on: vm.dependsOn,
                start: vm.settings.start ?? 'on',
              }))}
            />
          </CardBody>
        </Card>
        <Card>
          <CardTitle component="h2">What it would change</CardTitle>
          <CardBody>
            <ProblemAlert error={look.error} />
            {look.data !== undefined && <ChangesList reply={look.data} />}
          </CardBody>
        </Card>
      </GridItem>
      {isSaving && (
        <ConfirmDialog
          title={`Save ${name}?`}
          action="Save"
          asksReason
          whyNot={whyNot}
          onClose={() => setSaving(false)}
          onConfirm={async (reason) => {
            await call('POST /api/v1/plan-files', { body: { file, apply: true }, reason });
            await queries.invalidateQueries();
            await navigate(addresses.plan(name));
          }}
        >
          {look.data !== undefined && <ChangesList reply={look.data} />}
        </ConfirmDialog>
      )}
    </Grid>
  );
}

export type FormVm = Member & {
  /** How the plan names it. */
  key: string;
  settings: PlanVm;
  /** By their names, however the plan has them. */
  dependsOn: readonly string[];
};

function settingsOf(file: PlanFile, member: Member, members: readonly Member[]): FormVm {
  const all = file.plan.vms ?? {};
  const key = member.uuid in all ? member.uuid : member.name;
  const settings = all[key] ?? {};
  const dependsOn = (settings.depends_on ?? []).map(
    (named) => members.find((other) => other.uuid === named)?.name ?? named,
  );
  return { ...member, key, settings, dependsOn };
}

type Found = { readonly at: string; readonly message: string; readonly severity: string };

function problemsAt(problems: readonly Found[], key: string): string[] {
  const under = `/plan/vms/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
  return problems
    .filter(({ at, severity }) => severity !== 'warning' && (at === under || at.startsWith(`${under}/`)))
    .map(({ message }) => message);
}

function inCycle(cycle: readonly string[], name: string): string[] {
  return cycle.includes(name) ? [`These wait for each other: ${cycle.join(' after ')}.`] : [];
}
