/** plan addresses: what addresses the VMs of a plan have now, and what they are given here. */
import type { Command } from 'commander';
import type { PlanAddresses } from '#/api/plan-files.ts';
import type { InterfaceAddresses } from '#/api/plans.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { problemText } from './plan-problems.ts';
import { table } from './table.ts';

export function registerPlanAddressCommands(plan: Command): void {
  const addresses = plan
    .command('addresses')
    .description('what addresses the VMs of a plan have now, and what they are given here');
  examples(addresses, ['antipode plan addresses all']);
  const show = withManager(
    addresses
      .command('show', { isDefault: true })
      .description('the addresses of each interface, now and then')
      .argument('<plan>', "the plan's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const found = await api.get<PlanAddresses>(`/plans/${encodeURIComponent(name)}/addresses`);
    if (options.json === true) return printJson(found);
    for (const problem of found.problems) say(problemText(problem));
    const rows = found.vms.flatMap((vm) =>
      vm.interfaces.map(({ nic, mac, network_here: here, before, after, rules }, index) => [
        index === 0 ? vm.vm_name : '',
        index === 0 ? (vm.host_name ?? '') : '',
        mac === null ? String(nic) : `${nic} (${mac})`,
        here ?? '',
        before.join(' ') || 'not known',
        after === null ? 'as they are' : wantedText(after),
        rules.length === 0 ? '' : rules.join(', '),
      ]),
    );
    const titles = ['VM', 'HOST NAME', 'INTERFACE', 'NETWORK', 'NOW', 'THEN', 'RULES'];
    print(table(titles, rows, 'no interface of its VMs is known, and the plan names none'));
  });
  examples(show, ['antipode plan addresses all', 'antipode plan addresses show all --json']);
}

function wantedText({ ipv4, ipv6, gateway4, gateway6, dns, search }: InterfaceAddresses): string {
  const parts: string[] = [];
  for (const part of [ipv4, ipv6]) {
    if (part !== undefined) parts.push(typeof part === 'string' ? part : part.join(' ') || 'none');
  }
  for (const gateway of [gateway4, gateway6]) {
    if (gateway !== undefined) parts.push(gateway === null ? 'no gateway' : `gateway ${gateway}`);
  }
  if (dns !== undefined) parts.push(`DNS ${dns.join(' ') || 'none'}`);
  if (search !== undefined) parts.push(`search ${search.join(' ') || 'none'}`);
  return parts.join(', ');
}
