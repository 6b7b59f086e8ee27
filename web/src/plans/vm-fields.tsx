/** How one VM of a plan comes up: when, after which, whether it starts, and what says that it is healthy. */
import {
  Checkbox,
  Flex,
  FormFieldGroup,
  FormFieldGroupHeader,
  FormGroup,
  FormHelperText,
  FormSelect,
  FormSelectOption,
  HelperText,
  HelperTextItem,
} from '@patternfly/react-core';
import type { PlanVm } from '#/api/types.ts';
import { TextField } from '#/shared/text-field.tsx';
import type { FormVm } from './plan-form-page.tsx';

const PORT_MAX = 65_535;

export function VmFields(props: {
  vm: FormVm;
  others: readonly string[];
  problems: readonly string[];
  onChange: (settings: PlanVm) => void;
}) {
  const { onChange, others, problems, vm } = props;
  const { settings } = vm;
  const put = (change: Partial<PlanVm>) => onChange({ ...settings, ...change });
  const id = (field: string) => `${vm.uuid}-${field}`;
  const depend = (name: string, isOn: boolean) =>
    put({ depends_on: isOn ? [...vm.dependsOn, name] : vm.dependsOn.filter((one) => one !== name) });
  return (
    <FormFieldGroup
      header={<FormFieldGroupHeader titleText={{ text: vm.name, id: id('title') }} />}
      aria-labelledby={id('title')}
    >
      <Flex gap={{ default: 'gapMd' }}>
        <FormGroup label="Priority" fieldId={id('priority')}>
          <FormSelect
            id={id('priority')}
            aria-label={`Priority of ${vm.name}`}
            value={settings.priority ?? 3}
            onChange={(_event, value) => put({ priority: Number(value) })}
          >
            {[1, 2, 3, 4, 5].map((one) => (
              <FormSelectOption key={one} value={one} label={PRIORITIES[one]!} />
            ))}
          </FormSelect>
        </FormGroup>
        <FormGroup label="Start" fieldId={id('start')}>
          <FormSelect
            id={id('start')}
            aria-label={`Start of ${vm.name}`}
            value={settings.start ?? 'on'}
            onChange={(_event, value) => put({ start: value as 'on' | 'off' })}
          >
            <FormSelectOption value="on" label="Is started" />
            <FormSelectOption value="off" label="Is left off" />
          </FormSelect>
        </FormGroup>
        <FormGroup label="At the protected site, in a migration" fieldId={id('down')}>
          <FormSelect
            id={id('down')}
            aria-label={`How ${vm.name} ends`}
            value={settings.shut_down ?? 'guest'}
            onChange={(_event, value) => put({ shut_down: value as 'guest' | 'power_off' })}
          >
            <FormSelectOption value="guest" label="Its guest shuts down" />
            <FormSelectOption value="power_off" label="It is powered off" />
          </FormSelect>
        </FormGroup>
      </Flex>
      {others.length > 0 && (
        <FormGroup label="After" role="group" fieldId={id('after')}>
          <Flex gap={{ default: 'gapMd' }}>
            {others.map((name) => (
              <Checkbox
                key={name}
                id={id(`after-${name}`)}
                label={name}
                aria-label={`${vm.name} after ${name}`}
                isChecked={vm.dependsOn.includes(name)}
                onChange={(_event, isOn) => depend(name, isOn)}
              />
            ))}
          </Flex>
          {problems.length > 0 && (
            <FormHelperText>
              <HelperText isLiveRegion>
                {problems.map((problem) => (
                  <HelperTextItem key={problem} variant="error">
                    {problem}
                  </HelperTextItem>
                ))}
              </HelperText>
            </FormHelperText>
          )}
        </FormGroup>
      )}
      <Health vm={vm} onChange={(health) => put({ health })} />
    </FormFieldGroup>
  );
}

const PRIORITIES: Record<number, string> = { 1: '1, first', 2: '2', 3: '3', 4: '4', 5: '5, last' };

type Probes = NonNullable<PlanVm['health']>;

/** The two gates that most VMs need; others are in the file, and stay. */
function Health({ onChange, vm }: { vm: FormVm; onChange: (health: Probes) => void }) {
  const probes = vm.settings.health ?? [];
  const hasAgent = probes.some((probe) => probe.kind === 'agent');
  const tcp = probes.find((probe) => probe.kind === 'tcp');
  const others = probes.filter((probe) => probe !== tcp);
  const more = probes.length - (hasAgent ? 1 : 0) - (tcp === undefined ? 0 : 1);
  const port = (text: string) =>
    onChange(text === '' ? others : [...others, { ...tcp, kind: 'tcp', port: Number(text) }]);
  return (
    <Flex gap={{ default: 'gapMd' }} alignItems={{ default: 'alignItemsFlexEnd' }}>
      <Checkbox
        id={`${vm.uuid}-agent`}
        label="Healthy when its guest agent answers"
        aria-label={`${vm.name} is healthy when its guest agent answers`}
        isChecked={hasAgent}
        onChange={(_event, isOn) =>
          onChange(isOn ? [...probes, { kind: 'agent' }] : probes.filter((probe) => probe.kind !== 'agent'))
        }
      />
      <TextField
        id={`${vm.uuid}-tcp`}
        label="and this TCP port"
        type="number"
        value={tcp === undefined ? '' : String(tcp.port)}
        wrong={wrongHealth(vm.settings)}
        help={more > 0 ? `and ${more} more in the file` : undefined}
        onChange={port}
      />
    </Flex>
  );
}

/** Checked here, so that nothing wrong is sent. */
export function wrongHealth({ health = [] }: PlanVm): string | undefined {
  const isWrong = health.some((probe) => probe.kind === 'tcp' && !isPort(probe.port));
  return isWrong ? `A port is from 1 to ${PORT_MAX}.` : undefined;
}

function isPort(number: number): boolean {
  return Number.isInteger(number) && number >= 1 && number <= PORT_MAX;
}
