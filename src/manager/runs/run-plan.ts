/**
 * What a run carries out: the plan as it was when the run began, with every name resolved to what it means at this
 * site. It is kept with the run, so that neither an edited plan nor another manager makes it go on differently.
 */
import type { HealthProbe, InterfaceAddresses, PlanStep } from '#/api/plans.ts';
import type { RunKind } from '#/api/runs.ts';

/** Which recovery point a VM is brought up from. */
export type PointChoice = { from: 'newest' } | { from: 'sequence'; sequence: number };

export type RunVm = {
  vmUuid: string;
  vmName: string;
  replicaId: string;
  sourceSiteId: string;
  /** 1 to 5. */
  priority: number;
  /** UUIDs of VMs of this plan. */
  dependsOn: string[];
  start: 'on' | 'off';
  shutDown: { mode: 'guest' | 'power_off'; timeoutMs: number };
  hostId: string | null;
  networks: Record<string, string>;
  storagePath: string | null;
  health: HealthProbe[];
  before: PlanStep[];
  after: PlanStep[];
  customize: {
    by: 'agent' | 'disk';
    hostName: string | null;
    addresses: InterfaceAddresses[];
    /** `continue`: it comes up as it is, and that is said. */
    onFailure?: 'abort' | 'continue';
  } | null;
  /** Its guest gets the addresses back that it had before another site gave it others. */
  restore?: true;
  point: PointChoice;
  /** The protected site's manager did not answer when the run began: it is not waited for. */
  isSourceSilent: boolean;
};

/** A VM of this site that makes room for the run. */
export type SuspendedVm = { hostId: string; vmUuid: string; vmName: string };

export type RunPlan = {
  kind: RunKind;
  planId: string | null;
  planName: string;
  groups: string[];
  vms: RunVm[];
  before: PlanStep[];
  after: PlanStep[];
  /** Steps around the VMs of a priority, by its number. */
  priorities: Record<string, { before: PlanStep[]; after: PlanStep[] }>;
  suspend: SuspendedVm[];
  /** Of a test: one isolated network or one for each, and the gateways between them. */
  test: { networks: 'one' | 'each'; router: Record<string, string> };
};

/** Both sites are there, and nothing is lost: what fails before the first VM comes up is taken back. */
export function isPlanned(kind: RunKind): boolean {
  return kind === 'migration' || kind === 'failback';
}
