/** The addresses that a plan's VMs have here, by its rules and by what it says of each VM. Pure. */
import type { PlanAddresses } from '#/api/plan-files.ts';
import type { IpRule, PlanDocument } from '#/api/plans.ts';
import { formatAddress, isLocal, parsePrefix } from '#/recovery/ip-address.ts';
import { checkRules, checkWanted, type IpProblem } from '#/recovery/ip-rules-check.ts';
import { customize, type Customized } from '#/recovery/ip-rules.ts';
import type { Findings } from './findings.ts';
import { siteNameOf, type PlanFacts } from './plan-facts.ts';
import type { Member } from './plan-members.ts';

type VmPreview = PlanAddresses['vms'][number];

/** Holds what the VMs before have got, so that no two get the same. */
export class AddressPlan {
  readonly #rules: readonly IpRule[];
  readonly #facts: PlanFacts;
  readonly #findings: Findings;
  /** VM and whether it was changed, by network of this site and address. */
  readonly #holders = new Map<string, { vm: string; isChanged: boolean }>();
  readonly #hostNames = new Map<string, string>();

  constructor(plan: PlanDocument, facts: PlanFacts, findings: Findings) {
    this.#rules = plan.ip_rules ?? [];
    this.#facts = facts;
    this.#findings = findings;
    for (const problem of checkRules(this.#rules)) this.#add(problem, ['plan', 'ip_rules']);
  }

  /** `networks` is from the protected site's to this one's. */
  of(member: Member, networks: Readonly<Record<string, string>>): VmPreview {
    const { replica, settings, key } = member;
    const known = this.#facts.vms.get(replica.id)?.interfaces ?? [];
    const own = settings.addresses ?? [];
    this.#checkNics(member, known.length);
    const customized = customize(known, this.#rules, own);
    for (const one of customized) {
      if (one.wanted === null) continue;
      const name = `VM ${replica.vm_name}, interface ${one.nic}`;
      const index = own.findIndex(({ nic }) => nic === one.nic || nic === one.found?.mac);
      const at = index === -1 ? ['plan', 'vms', key] : ['plan', 'vms', key, 'addresses', index];
      for (const problem of checkWanted(one.wanted, name)) this.#add(problem, at);
    }
    this.#warnOfUnknown(member, customized);
    this.#checkHostName(member);
    const interfaces = customized.map(({ nic, found, wanted, rules }) => {
      const network = found?.network ?? null;
      const here = network !== null && Object.hasOwn(networks, network) ? networks[network]! : null;
      this.#hold(member, { found, wanted, here });
      return {
        nic,
        mac: found?.mac ?? null,
        network,
        network_here: here,
        before: [...(found?.addresses ?? [])],
        after: wanted,
        rules: rules.map((index) => index + 1),
      };
    });
    return {
      vm_uuid: replica.vm_uuid,
      vm_name: replica.vm_name,
      source_site_name: siteNameOf(this.#facts, replica.source_site_id),
      host_name: settings.host_name ?? null,
      customize_by: settings.customize_by ?? 'agent',
      interfaces,
    };
  }

  #checkNics({ settings, replica, key }: Member, count: number): void {
    const seen = new Set<number | string>();
    for (const [index, { nic }] of (settings.addresses ?? []).entries()) {
      const at = ['plan', 'vms', key, 'addresses', index, 'nic'];
      if (seen.has(nic)) {
        const message = `VM ${replica.vm_name} has settings for interface ${nic} twice`;
        this.#findings.error({ code: 'conflict', message, hint: 'Keep one of them.', at });
      }
      seen.add(nic);
      const known = this.#facts.vms.get(replica.id)?.interfaces ?? [];
      const isThere = typeof nic === 'number' ? nic < count : known.some(({ mac }) => mac === nic);
      if (isThere || count === 0) continue;
      this.#findings.add('warning', {
        code: 'not_found',
        message: `VM ${replica.vm_name} has no interface ${nic} at the protected site`,
        hint: `It has: ${known.map(({ mac }, place) => `${place} (${mac})`).join(', ')}.`,
        at,
      });
    }
  }

  #warnOfUnknown({ replica, settings, key }: Member, customized: readonly Customized[]): void {
    const isKnown = customized.some(({ found }) => (found?.addresses.length ?? 0) > 0);
    if (this.#rules.length === 0 || isKnown || settings.addresses !== undefined) return;
    this.#findings.add('warning', {
      code: 'not_found',
      message: `the addresses of VM ${replica.vm_name} are not known, so no rule changes them`,
      hint: 'Rules need what the guest agent in the VM tells: install it there, or name the addresses in the plan.',
      at: ['plan', 'vms', key],
    });
  }

  #checkHostName({ settings, replica, key }: Member): void {
    const name = settings.host_name?.toLowerCase();
    if (name === undefined) return;
    const other = this.#hostNames.get(name);
    this.#hostNames.set(name, replica.vm_name);
    if (other === undefined) return;
    this.#findings.error({
      code: 'conflict',
      message: `VMs ${other} and ${replica.vm_name} would both have the host name ${name}`,
      hint: 'Give each its own.',
      at: ['plan', 'vms', key, 'host_name'],
    });
  }

  /** What is not changed stays, and is not to be given to another. */
  #hold(member: Member, one: Pick<Customized, 'found' | 'wanted'> & { here: string | null }): void {
    const { vm_name: vm } = member.replica;
    for (const { address, isChanged } of [...addressesAfter(one, 4), ...addressesAfter(one, 6)]) {
      const place = JSON.stringify([one.here, address]);
      const other = this.#holders.get(place);
      this.#holders.set(place, { vm, isChanged });
      // Two that have one address already are no matter of the plan.
      if (other === undefined || other.vm === vm || !(isChanged || other.isChanged)) continue;
      this.#findings.error({
        code: 'conflict',
        message: `VMs ${other.vm} and ${vm} would both have the address ${address}`,
        hint: 'Change a rule, or the addresses of one of them.',
        at: ['plan', 'vms', member.key],
      });
    }
  }

  #add({ severity, message, hint, at }: IpProblem, base: readonly (string | number)[]): void {
    this.#findings.add(severity, { code: 'usage_invalid', message, hint, at: [...base, ...at] });
  }
}

function addressesAfter(
  { found, wanted }: Pick<Customized, 'found' | 'wanted'>,
  family: 4 | 6,
): { address: string; isChanged: boolean }[] {
  const set = family === 4 ? wanted?.ipv4 : wanted?.ipv6;
  if (typeof set === 'string') return [];
  return (set ?? found?.addresses ?? []).flatMap((text) => {
    const address = parsePrefix(text)?.address;
    if (address?.family !== family || isLocal(address)) return [];
    return [{ address: formatAddress(address), isChanged: set !== undefined }];
  });
}
