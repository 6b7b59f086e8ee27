/**
 * Protects one VM or many: to which site, how old its points may get, which disks, which points are kept. Each VM is
 * checked at both sites while one types; what is wrong is said beside what is wrong.
 */
import {
  ActionGroup,
  Button,
  Card,
  CardBody,
  CardTitle,
  Checkbox,
  Form,
  FormGroup,
  FormSelect,
  FormSelectOption,
  Grid,
  GridItem,
  PageSection,
} from '@patternfly/react-core';
import { useState } from 'react';
import { useNavigate, useSearchParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import { useCall } from '#/api/use-call.ts';
import { parseSpan, plural, setSpan } from '#/lib/format.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { TextField } from '#/shared/text-field.tsx';
import { retentionText } from '#/shared/retention.ts';
import { canManage } from '#/shared/what-may-be-done.ts';
import { ActionButton } from '#/shared/action-button.tsx';
import { CheckList } from './check-list.tsx';
import { RETENTIONS, rpoWrong, type Choice } from './choice.ts';
import { useProtect, type ProtectWork } from './use-protect.ts';
import { VmPicker } from './vm-picker.tsx';

export function ProtectPage() {
  const [search, setSearch] = useSearchParams();
  const names = search.getAll('vm');
  const setNames = (next: readonly string[]) =>
    setSearch(
      next.map((name): [string, string] => ['vm', name]),
      { replace: true },
    );
  const form = useForm(names);
  const work = useProtect(names, form.choice);
  return (
    <>
      <PageHead title="Protect" crumbs={[['Virtual machines', addresses.vms]]} />
      <PageSection hasBodyWrapper={false} isFilled>
        <Grid hasGutter>
          <GridItem lg={6}>
            <Form onSubmit={(event) => event.preventDefault()}>
              <VmPicker names={names} onChange={setNames} />
              <SiteField form={form} />
              <TextField
                id="rpo"
                label="RPO"
                help="How old the newest recovery point may ever be: 5 s, 15 min, 1 h."
                value={form.rpo}
                wrong={form.wrongRpo}
                onChange={form.setRpo}
              />
              <FormGroup label="Points kept" fieldId="kept">
                <FormSelect
                  id="kept"
                  value={form.kept}
                  onChange={(_event, value) => form.setKept(Number(value))}
                >
                  {RETENTIONS.map(({ retention }, index) => (
                    <FormSelectOption
                      key={retentionText(retention)}
                      value={index}
                      label={retentionText(retention)}
                    />
                  ))}
                </FormSelect>
              </FormGroup>
              {form.disks.length > 0 && <DisksField form={form} />}
              <Buttons isMany={names.length > 1} work={work} />
            </Form>
          </GridItem>
          <GridItem lg={6}>
            <Card>
              <CardTitle component="h2">What will happen</CardTitle>
              <CardBody>
                {form.choice !== undefined && names.length > 0 && (
                  <p className="lead">
                    {plural(names.length, 'VM')} will have a recovery point at {form.choice.site} that is
                    never older than {setSpan(form.choice.rpoMs)}. A cycle begins in time for that and sends
                    what changed; the guest waits for nothing. The first copy sends all that is allocated.
                  </p>
                )}
                <CheckList names={names} work={work} />
              </CardBody>
            </Card>
          </GridItem>
        </Grid>
      </PageSection>
    </>
  );
}

type FormState = ReturnType<typeof useForm>;

/** What was typed, and what it comes to. */
function useForm(names: readonly string[]) {
  const sites = useOtherSites();
  const [chosenSite, setSite] = useState('');
  const [rpo, setRpo] = useState('15 min');
  const [kept, setKept] = useState(0);
  const [left, setLeft] = useState<ReadonlySet<string>>(new Set());
  const isOne = names.length === 1;
  const vm = useCall('GET /api/v1/vms/{id}', ['site'], { params: { id: names[0] ?? '' }, isEnabled: isOne });
  const site = chosenSite === '' ? (sites[0]?.name ?? '') : chosenSite;
  const disks = isOne ? (vm.data?.disks ?? []) : [];
  const chosen = disks.filter((disk) => !left.has(disk.key)).map((disk) => disk.key);
  const rpoMs = parseSpan(rpo);
  const wrongRpo = rpoWrong(rpo, rpoMs);
  const hasDisks = disks.length === 0 || chosen.length > 0;
  const isWhole = wrongRpo === undefined && site !== '' && hasDisks;
  const isAll = chosen.length === disks.length;
  const choice: Choice | undefined =
    isWhole && rpoMs !== undefined
      ? { site, rpoMs, retention: RETENTIONS[kept]!.retention, disks: isAll ? undefined : chosen }
      : undefined;
  return { sites, site, setSite, rpo, setRpo, wrongRpo, kept, setKept, disks, chosen, left, setLeft, choice };
}

function useOtherSites() {
  const { data } = useCall('GET /api/v1/sites', ['site']);
  return (data?.items ?? []).filter((site) => !site.is_self);
}

function SiteField({ form: { setSite, site, sites } }: { form: FormState }) {
  return (
    <FormGroup label="Recovery site" fieldId="site">
      <FormSelect id="site" value={site} onChange={(_event, value) => setSite(value)}>
        {sites.length === 0 && <FormSelectOption value="" label="This site is paired with no other one" />}
        {sites.map((known) => (
          <FormSelectOption
            key={known.id}
            value={known.name}
            label={known.is_reachable === false ? `${known.name} (does not answer)` : known.name}
          />
        ))}
      </FormSelect>
    </FormGroup>
  );
}

function DisksField({ form: { chosen, disks, left, setLeft } }: { form: FormState }) {
  return (
    <FormGroup label="Disks" role="group">
      {disks.map((disk) => (
        <Checkbox
          key={disk.key}
          id={`disk-${disk.key}`}
          label={disk.key}
          description={disk.refusal ?? disk.path}
          isChecked={!left.has(disk.key)}
          onChange={(_event, isChecked) => {
            const next = new Set(left);
            if (isChecked) next.delete(disk.key);
            else next.add(disk.key);
            setLeft(next);
          }}
        />
      ))}
      {chosen.length === 0 && <p className="icon-error">At least one disk has to be replicated.</p>}
    </FormGroup>
  );
}

function Buttons({ isMany, work }: { isMany: boolean; work: ProtectWork }) {
  const navigate = useNavigate();
  const protect = async () => {
    if (await work.run()) await navigate(addresses.vms);
  };
  return (
    <ActionGroup>
      <ActionButton
        name={isMany ? `Protect ${plural(work.ready, 'VM')}` : 'Protect'}
        variant="primary"
        isBusy={work.isBusy}
        whyNot={canManage('protection.manage') ?? work.whyNot}
        onClick={() => void protect()}
      />
      <Button variant="link" onClick={() => void navigate(addresses.vms)}>
        Cancel
      </Button>
    </ActionGroup>
  );
}
