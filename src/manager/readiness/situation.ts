/** What readiness is judged by: plain facts, gathered without asking anybody (gather.ts), judged purely (judge.ts). */
import type { PlanProblem } from '#/api/plan-files.ts';
import type { VmReadiness } from '#/api/readiness.ts';
import type { Hardware, HostCapabilities } from '#/control/hardware.ts';

/** A refusal that a run would meet. */
export type Refusal = { code: string; message: string; hint: string | null };

export type PointTimes = { momentMs: number; acknowledgedMs: number };

export type VmSituation = {
  uuid: string;
  name: string;
  priority: number;
  starts: boolean;
  replicaId: string;
  replicaState: string;
  rpoMs: number;
  /** Why its replica cannot be recovered from now. */
  replicaRefusal: Refusal | null;
  /** Where it would come up; or why nowhere. */
  hostId: string | null;
  hostRefusal: Refusal | null;
  serverId: string;
  /** The newest ones, oldest first. */
  points: readonly PointTimes[];
  storedBytes: number;
  /** As the protected site told; null when it has not. */
  memoryBytes: number | null;
  hardware: Hardware | null;
  /** Those that the plan gives it, without prefix lengths. */
  addresses: readonly string[];
  /** Of its last tests, how long they took to the sign of life. */
  startsMs: readonly number[];
  proven: VmReadiness['proven'];
  /** Recoveries of it that a lost database has forgotten, and what to do about them. */
  leftOver: readonly { message: string; hint: string }[];
};

export type HostVm = {
  uuid: string;
  name: string;
  isUp: boolean;
  memoryBytes: number;
  addresses: readonly string[];
};

export type HostSituation = {
  id: string;
  name: string;
  isFresh: boolean;
  memoryBytes: number;
  storageFreeBytes: number;
  storagePath: string;
  isHookWorking: boolean | null;
  capabilities: HostCapabilities | null;
  vms: readonly HostVm[];
  certificateExpiresMs: number;
};

export type ServerSituation = {
  id: string;
  name: string;
  isFresh: boolean;
  freeBytes: number;
  certificateExpiresMs: number;
};

export type SiteSituation = {
  id: string;
  name: string;
  /** Null before it was asked for the first time. */
  isReachable: boolean | null;
  authorityExpiresMs: number;
};

export type Situation = {
  nowMs: number;
  plan: { id: string; name: string };
  problems: readonly PlanProblem[];
  provenForMs: number;
  /** Names or UUIDs of VMs here that make room. */
  suspend: readonly string[];
  vms: readonly VmSituation[];
  hosts: readonly HostSituation[];
  servers: readonly ServerSituation[];
  sites: readonly SiteSituation[];
};
