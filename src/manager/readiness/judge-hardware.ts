/** Whether the host that a VM would come up on has what its definition asks for. Pure. */
import type { Hardware, HostCapabilities } from '#/control/hardware.ts';
import { ofVm, type Judge } from './finding.ts';
import type { HostSituation, Situation, VmSituation } from './situation.ts';

export function judgeHardware({ hosts, vms }: Situation, add: Judge): void {
  for (const vm of vms) {
    const host = hosts.find(({ id }) => id === vm.hostId);
    if (host === undefined) continue;
    if (vm.hardware === null || host.capabilities === null) {
      add(ofVm(vm), {
        severity: 'info',
        code: 'hardware_unknown',
        text:
          vm.hardware === null
            ? `${vm.name}: the protected site has not told what its definition asks of a host`
            : `host ${host.name} has not told what it can run`,
        hint: 'A test tells.',
      });
      continue;
    }
    for (const { code, text, hint } of lacking(vm, host)) {
      add(ofVm(vm), { severity: 'error', code, text: `${vm.name}: ${text}`, hint });
    }
    if (vm.hardware.cpu_mode === 'host-passthrough') {
      add(ofVm(vm), {
        severity: 'info',
        code: 'cpu_passthrough',
        text: `${vm.name} gets the processor of its host as it is: it may find another one on ${host.name}`,
        hint: 'A test tells whether its system minds.',
      });
    }
  }
}

type Lack = { code: string; text: string; hint: string };

function lacking({ hardware }: VmSituation, { capabilities, name }: HostSituation): Lack[] {
  if (hardware === null || capabilities === null) return [];
  const { arch, cpu_mode: mode, cpu_model: model, machine } = hardware;
  const isModelNamed = model !== null && (mode === 'custom' || mode === null);
  const lacks: (Lack | false)[] = [
    arch !== null &&
      arch !== capabilities.arch && {
        code: 'arch_missing',
        text: `it is for ${arch}, and host ${name} is ${capabilities.arch}`,
        hint: 'Choose another host for it in the plan.',
      },
    machine !== null &&
      !capabilities.machines.includes(machine) && {
        code: 'machine_missing',
        text: `the QEMU of host ${name} has no machine type ${machine}`,
        hint: 'Install a QEMU that is not older than that of the protected site.',
      },
    isModelNamed &&
      !capabilities.cpu_models.includes(model) && {
        code: 'cpu_missing',
        text: `host ${name} cannot run the processor model ${model}`,
        hint: 'Give the VM an older processor model, or choose another host.',
      },
    hardware.has_tpm &&
      !capabilities.has_tpm && {
        code: 'tpm_missing',
        text: `it has a TPM, and host ${name} cannot emulate one`,
        hint: 'Install swtpm there.',
      },
    lackingFirmware(hardware, capabilities, name),
  ];
  return lacks.filter((lack) => lack !== false);
}

function lackingFirmware(hardware: Hardware, capabilities: HostCapabilities, host: string): Lack | false {
  const isMissing = hardware.firmware === 'efi' && !capabilities.has_efi;
  if (!isMissing && (!hardware.is_secure_boot || capabilities.has_secure_boot)) return false;
  const how = isMissing ? 'by UEFI' : 'securely';
  return {
    code: 'firmware_missing',
    text: `it boots ${how}, and host ${host} has no firmware for that`,
    hint: 'Install the UEFI firmware of the distribution there (package ovmf).',
  };
}
