/**
 * Gives a guest its addresses and host name at this site through its agent, and undoes that. What was there before is
 * kept in the guest itself, so that it is there too when the VM has gone back to where it came from.
 */
import type { CustomizeTask, GuestInterface } from '#/control/guest-tasks.ts';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { agentAnswers } from './agent-call.ts';
import { customizeScript, restoreScript, type Customization } from './customize-script.ts';
import { nicsIn, toldInterfaces, type ToldInterface } from './guest-addresses.ts';
import { domainOf, type GuestContext } from './guest-context.ts';
import type { WantedNic } from './network-files.ts';
import { runProgram } from './run-program.ts';

const AGENT_SECONDS = 2;
const EVERY_MS = 1000;
/** Names of interfaces that Linux makes by itself. */
const NAME = /^[A-Za-z0-9_.-]{1,15}$/;
const REFUSED = 3;
const SAID_LENGTH_MAX = 1000;

/** Throws Failure vm_unsupported, not_found, usage_invalid, timeout, tool_failed; the last with the guest as it was. */
export async function runCustomize(
  task: CustomizeTask,
  context: GuestContext,
  signal: AbortSignal,
): Promise<Record<string, unknown>> {
  const { clock, steps } = context;
  const endMs = clock.monotonicMs() + task.timeout_ms;
  const domain = await domainOf(task, context);
  await steps.run('wait for the guest agent', async () => {
    while (!(await agentAnswers(domain, AGENT_SECONDS, signal))) {
      if (clock.monotonicMs() > endMs) {
        throw new Failure('timeout', `the guest agent of ${task.vm_name} does not answer`);
      }
      await clock.sleep(EVERY_MS, signal);
    }
  });
  const script = await scriptOf(task, domain, { context, signal });
  return await steps.run(`${task.wanted.kind} addresses`, async () => {
    const timeoutMs = Math.max(1000, endMs - clock.monotonicMs());
    const program = { path: '/bin/sh', arguments: ['-c', script], timeoutMs };
    const { exitCode, output } = await runProgram(domain, program, { clock, signal });
    if (exitCode === 0) return { said: output, method: /^method: (\S+)/m.exec(output)?.[1] ?? null };
    const isRefused = exitCode === REFUSED;
    throw new Failure(
      isRefused ? 'vm_unsupported' : 'tool_failed',
      `${task.wanted.kind} addresses in ${task.vm_name}: ${isRefused ? 'nothing was changed' : 'it failed'}`,
      { hint: output.trim().slice(-SAID_LENGTH_MAX) || 'The guest said nothing.' },
    );
  });
}

async function scriptOf(
  { wanted, vm_name: name }: CustomizeTask,
  domain: Domain,
  parts: { context: GuestContext; signal: AbortSignal },
): Promise<string> {
  if (wanted.kind === 'restore') return restoreScript();
  const told = await toldInterfaces(domain, parts.signal);
  const macs = nicsIn(await domain.getXml()).map(({ mac }) => mac);
  const before = parts.context.states.all().find(({ uuid }) => uuid === domain.uuid)?.macs ?? macs;
  const customization = customizationOf(name, wanted, { told, macs, before });
  return customizeScript(wanted.kind, customization);
}

/** Pure. `macs` are those of the definition in its order, `before` those of the protected site. */
export function customizationOf(
  name: string,
  wanted: { host_name: string | null; addresses: readonly GuestInterface[] },
  known: { told: readonly ToldInterface[]; macs: readonly string[]; before: readonly string[] },
): Customization {
  const nics = wanted.addresses.map(({ nic, ...rest }): WantedNic => {
    const place = typeof nic === 'number' ? nic : placeOf(nic, known);
    const mac = known.macs[place];
    const inGuest = known.told.find((one) => one.mac === mac && NAME.test(one.name));
    if (mac === undefined || inGuest === undefined) {
      throw new Failure('not_found', `VM ${name} has no interface ${nic} that its guest agent tells of`, {
        hint: `It tells of ${known.told.map((one) => `${one.name} (${one.mac})`).join(', ') || 'none'}.`,
      });
    }
    checkAddresses(name, { nic, ...rest });
    return { ...rest, name: inGuest.name, macs: [...new Set([mac, known.before[place] ?? mac])] };
  });
  const names = nics.map((nic) => nic.name);
  if (new Set(names).size < names.length) {
    throw new Failure('usage_invalid', `an interface of VM ${name} is given addresses twice`);
  }
  const others = known.told.filter((one) => known.macs.includes(one.mac) && NAME.test(one.name));
  return {
    nics,
    others: others.map((one) => one.name).filter((other) => !names.includes(other)),
    hostName: wanted.host_name,
  };
}

function placeOf(
  mac: string,
  { macs, before }: { macs: readonly string[]; before: readonly string[] },
): number {
  const place = before.indexOf(mac);
  return place >= 0 ? place : macs.indexOf(mac);
}

function checkAddresses(name: string, { nic, ipv4, ipv6, gateway4, gateway6 }: GuestInterface): void {
  const withPrefix = [ipv4, ipv6].flatMap((addresses) => (Array.isArray(addresses) ? addresses : []));
  const bare = [gateway4, gateway6].filter((gateway) => typeof gateway === 'string');
  const wrong =
    withPrefix.find((address) => !address.includes('/')) ?? bare.find((address) => address.includes('/'));
  if (wrong === undefined) return;
  throw new Failure('usage_invalid', `interface ${nic} of VM ${name} cannot have ${wrong}`, {
    hint: 'Addresses have a prefix length, such as 10.2.0.5/24; gateways have none.',
  });
}
