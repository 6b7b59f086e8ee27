/** plan addresses: what addresses the VMs of a plan have now, and what they are given here. */
import type { Command } from 'commander';
import type { Site } from '#/api/inventory.ts';
import type { ImportReply, PlanAddresses } from '#/api/plan-files.ts';
import type { InterfaceAddresses, PlanView } from '#/api/plans.ts';
import { addressTable, takeAddressTable } from './address-table.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import type { ManagerApi } from './manager-api.ts';
import { finishImport, readInput } from './plan-file-commands.ts';
import { problemText } from './plan-problems.ts';
import { printable, table } from './table.ts';

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
    for (const text of diskNotices(found)) say(text);
    const titles = ['VM', 'HOST NAME', 'INTERFACE', 'NETWORK', 'NOW', 'THEN', 'RULES'];
    print(table(titles, rows, 'no interface of its VMs is known, and the plan names none'));
  });
  examples(show, ['antipode plan addresses all', 'antipode plan addresses show all --json']);
  registerTables(addresses);
}

/** Of guests that are edited while they are off, what nobody can know before. */
function diskNotices({ vms }: PlanAddresses): string[] {
  const byDisk = vms.filter(
    (vm) =>
      vm.customize_by === 'disk' &&
      (vm.host_name !== null || vm.interfaces.some(({ after }) => after !== null)),
  );
  if (byDisk.length === 0) return [];
  const names = byDisk.map((vm) => printable(vm.vm_name)).join(', ');
  return [
    `changed in their disks before they start: ${names}. Which files that means is known when a disk is opened: ` +
      'antipode plan test says it in the step of the VM.',
  ];
}

function registerTables(addresses: Command): void {
  const give = withManager(
    addresses
      .command('export')
      .description(
        'write the addresses that a plan gives its VMs by itself, not by rules, as the CSV of dr-ip-customizer; with ' +
          'a row to fill in for every interface',
      )
      .argument('<plan>', "the plan's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const { found, plan, site } = await knownOf(await managerOf(options), name);
    const text = addressTable(found, plan.document, site);
    if (options.json === true) printJson({ csv: text });
    else print(text);
  });
  examples(give, ['antipode plan addresses export all > all.csv']);

  const take = withManager(
    addresses
      .command('import')
      .description(
        'show what the rows of this site in such a CSV change in a plan, and what of it means nothing here; with ' +
          '--apply, change it. Adapters that it does not name stay as they are',
      )
      .argument('<plan>', "the plan's name or id")
      .argument('<file>', 'the CSV; - for standard input')
      .option('--apply', 'change it'),
  ).action(async (name: string, path: string, options: CommonOptions & { apply?: boolean }) => {
    const text = await readInput(path);
    const api = await managerOf(options);
    const known = await knownOf(api, name);
    const { found, plan, site } = known;
    const source = path === '-' ? 'standard input' : path;
    const { document, ignored } = takeAddressTable(text, source, { found, plan: plan.document, site });
    for (const one of ignored) say(printable(one));
    const looked = await api.post<ImportReply>('/plan-files', { file: { plan: document }, apply: false });
    const isOpen = options.apply === true && looked.problems.every(({ severity }) => severity !== 'error');
    const isChanged = looked.changes.some(({ change }) => change !== 'none');
    if (isOpen && isChanged) {
      // From the revision that was read: what somebody else has changed since is not undone.
      await api.post(`/plans/${plan.id}`, { revision: plan.revision, document });
    }
    finishImport({ ...looked, is_applied: isOpen }, { name: source, isJson: options.json === true });
  });
  examples(take, ['antipode plan addresses import all all.csv --apply']);
}

async function knownOf(api: ManagerApi, name: string) {
  const address = `/plans/${encodeURIComponent(name)}`;
  const [found, plan, { name: site }] = await Promise.all([
    api.get<PlanAddresses>(`${address}/addresses`),
    api.get<PlanView>(address),
    api.get<Site>('/site'),
  ]);
  return { found, plan, site };
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
