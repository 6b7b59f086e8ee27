/**
 * A plan with everything in it looked up: what a run is compiled from, and recorded with, so that changes of
 * documents, mappings or names during the run mean nothing to it. Pure.
 */
import type { PlanAddresses, PlanProblem } from '#/api/plan-files.ts';
import {
  DEFAULT_SHUT_DOWN_TIMEOUT_MS,
  type HealthProbe,
  type InterfaceAddresses,
  type PlanDocument,
  type PlanStep,
} from '#/api/plans.ts';
import type { PlanRecord } from '#/manager/store/plan-store.ts';
import { Findings, refuse } from './findings.ts';
import { AddressPlan } from './plan-addresses.ts';
import type { PlanFacts } from './plan-facts.ts';
import { membersOf, type Member } from './plan-members.ts';
import { placesOf, type Place } from './plan-order.ts';
import { whereaboutsOf, type Whereabouts } from './plan-places.ts';
import { StepCheck } from './plan-steps.ts';
import { checkTestNetworks } from './plan-test-networks.ts';

export type ResolvedVm = {
  replica_id: string;
  vm_uuid: string;
  vm_name: string;
  source_site_id: string;
  group: string;
  /** 1 to 5. Never later than that of a VM that depends on it. */
  priority: number;
  /** UUIDs of VMs of this plan; there is no cycle. */
  depends_on: string[];
  start: 'on' | 'off';
  shut_down: 'guest' | 'power_off';
  shut_down_timeout_ms: number;
  /** Networks of the protected site to networks of this one. */
  networks: Record<string, string>;
  /** Null leaves the choice to the recovery. */
  storage_path: string | null;
  /** Name or id of a host here; null leaves the choice to the recovery. */
  host: string | null;
  health: HealthProbe[];
  before: PlanStep[];
  after: PlanStep[];
  host_name: string | null;
  /** As the guest is to have them; empty when nothing is changed. */
  addresses: InterfaceAddresses[];
  customize_by: 'agent' | 'disk';
  customize_on_failure: 'abort' | 'continue';
};

/** Programs in guests name their VM by its UUID in every step. */
export type ResolvedPlan = {
  id: string;
  revision: number;
  name: string;
  /** In the order of their priorities, then by name. */
  vms: ResolvedVm[];
  before: PlanStep[];
  after: PlanStep[];
  /** By the priority's number as text. */
  priorities: Record<string, { before: PlanStep[]; after: PlanStep[] }>;
  /** Names or UUIDs of VMs of this site. */
  suspend: string[];
  test: { networks: 'one' | 'each'; router: Record<string, string>; every_ms: number | null };
};

/** Throws the first thing that keeps the plan from being run, and says how many there are. */
export function resolvePlan(plan: PlanRecord, facts: PlanFacts): ResolvedPlan {
  const { problems, resolved } = surveyPlan(plan, facts);
  refuse(problems, ['error', 'blocks_runs']);
  return resolved;
}

/** Everything that is found; what is resolved is of use only when no error is among it. */
export function surveyPlan(
  plan: Pick<PlanRecord, 'id' | 'revision' | 'document'>,
  facts: PlanFacts,
): { resolved: ResolvedPlan; problems: PlanProblem[]; previews: PlanAddresses['vms'] } {
  const { document } = plan;
  const findings = new Findings();
  const members = membersOf(document, facts, findings);
  const places = placesOf(members, findings);
  const steps = new StepCheck(members, places, findings);
  const addresses = new AddressPlan(document, facts, findings);
  const previews: PlanAddresses['vms'] = [];
  const vms = members.map((member) => {
    const place = places.get(member.replica.vm_uuid)!;
    const whereabouts = whereaboutsOf(member, facts, findings);
    const preview = addresses.of(member, whereabouts.networks);
    previews.push(preview);
    return resolveVm(member, { place, steps, whereabouts, preview });
  });
  checkTestNetworks(document, findings);
  checkSuspended(document, { members, facts, findings });
  const resolved: ResolvedPlan = {
    id: plan.id,
    revision: plan.revision,
    name: document.name,
    vms: vms.toSorted((a, b) => a.priority - b.priority || (a.vm_name < b.vm_name ? -1 : 1)),
    ...steps.ofPlan(document),
    suspend: document.suspend ?? [],
    test: {
      networks: document.test?.networks ?? 'one',
      router: document.test?.router ?? {},
      every_ms: document.test?.every_ms ?? null,
    },
  };
  return { resolved, problems: findings.list(), previews };
}

function resolveVm(
  member: Member,
  known: {
    place: Place;
    steps: StepCheck;
    whereabouts: Whereabouts;
    preview: PlanAddresses['vms'][number];
  },
): ResolvedVm {
  const { replica, settings } = member;
  const { networks, host, storagePath } = known.whereabouts;
  return {
    replica_id: replica.id,
    vm_uuid: replica.vm_uuid,
    vm_name: replica.vm_name,
    source_site_id: replica.source_site_id,
    group: member.group,
    priority: known.place.priority,
    depends_on: known.place.dependsOn,
    start: settings.start ?? 'on',
    shut_down: settings.shut_down ?? 'guest',
    shut_down_timeout_ms: settings.shut_down_timeout_ms ?? DEFAULT_SHUT_DOWN_TIMEOUT_MS,
    networks,
    storage_path: storagePath,
    host,
    health: settings.health ?? [],
    ...known.steps.ofVm(member),
    host_name: settings.host_name ?? null,
    addresses: known.preview.interfaces.flatMap(({ after }) => after ?? []),
    customize_by: settings.customize_by ?? 'agent',
    customize_on_failure: settings.customize_on_failure ?? 'abort',
  };
}

function checkSuspended(
  plan: PlanDocument,
  { members, facts, findings }: { members: readonly Member[]; facts: PlanFacts; findings: Findings },
): void {
  for (const [index, vm] of (plan.suspend ?? []).entries()) {
    const at = ['plan', 'suspend', index];
    if (members.some(({ replica }) => replica.vm_name === vm || replica.vm_uuid === vm)) {
      findings.error({
        code: 'conflict',
        message: `VM ${vm} is both recovered by the plan and suspended for it`,
        hint: 'Take it out of "suspend".',
        at,
      });
    } else if (!facts.here.vms.includes(vm)) {
      findings.add('blocks_runs', {
        code: 'not_found',
        message: `VM ${vm} is to be suspended for the plan, and no host of this site has it`,
        hint: 'List the VMs with: antipode vms. Or take it out of "suspend".',
        at,
      });
    }
  }
}
