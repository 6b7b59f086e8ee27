/**
 * Protecting all VMs that a run of a plan brought up here, back to the sites that they came from (docs/failback.md).
 *
 * The intents of all of them are recorded in one transaction before any other site is asked, and are asked for until
 * that site answers (protections.ts): neither a manager that dies nor a site that is away leaves some of them out.
 */
import type { RunReprotection, RunReprotectionVm } from '#/api/reprotections.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields } from '#/lib/log.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import type { Peers } from './peers.ts';
import { problemOf } from './problem.ts';
import { checkVm, chooseDisks } from './protection-check.ts';
import type { Protections } from './protections.ts';
import { recordReprotection } from './record-reprotection.ts';
import { replicatedKeys } from './reprotections.ts';
import type { RunVm } from './runs/run-plan.ts';
import { jobsInState, type Job } from './store/job-store.ts';
import type { PeerRow } from './store/peer-store.ts';
import type { Protection } from './store/protection-store.ts';
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';
import { findRun, listRuns, stepsOf, type Run } from './store/run-store.ts';

type Parts = { peers: Peers; claims: Claims; protections: Protections };
/** Runs that are looked through for the newest of a plan. */
const RUNS_MAX = 1000;
/** In these a recovery may still change its VM. */
const UNDER_WAY = ['running', 'ready', 'cleaning', 'failed'] as const;

/** A VM of a run, and how it stands at this site. */
type Standing = {
  vm: RunVm;
  replica: ReplicaRecord | undefined;
  /** It was brought up by this run, and runs here since: no other site has claimed it. */
  isHere: boolean;
  /** Its recovery, when that has not come to its end. */
  job: Job | undefined;
  protection: Protection | undefined;
};

export class PlanReprotections {
  readonly #context: Context;
  readonly #parts: Parts;

  constructor(context: Context, parts: Parts) {
    this.#context = context;
    this.#parts = parts;
  }

  /** Throws, with nothing changed at any site, when something speaks against it. Asking again changes nothing. */
  async start(which: string): Promise<RunReprotection> {
    const { changes, db } = this.#context;
    const { protections } = this.#parts;
    const run = await this.#find(which);
    if (run.state === 'running' || run.state === 'cleaning') throw underWay(run);
    const standing = await this.#standing(run);
    const here = standing.filter(({ isHere, job }) => isHere && job === undefined);
    if (here.length === 0) throw nothingHere(run, standing);
    const wanted = here.filter(({ protection }) => needsProtection(protection));
    const peers = await this.#peersOf(wanted);
    const intents = wanted.map((each) => this.#intent(each));
    await db.transaction().execute(async (at) => {
      for (const intent of intents) await recordReprotection(at, this.#context, intent);
    });
    for (const { replica } of wanted) protections.forgetRefusal(replica!.vm_uuid, replica!.source_site_id);
    changes.notify('orders');
    await Promise.all(peers.map((peer) => this.#ask(peer)));
    return this.#view(run);
  }

  /** How each VM of the run stands. */
  async show(which: string): Promise<RunReprotection> {
    return this.#view(await this.#find(which));
  }

  /** A run's id, or a plan's name, which means its newest run that brought VMs up for production. */
  async #find(which: string): Promise<Run> {
    const { db } = this.#context;
    const byId = await findRun(db, which);
    const run =
      byId ?? (await listRuns(db, RUNS_MAX, Number.MAX_SAFE_INTEGER)).find((one) => isMeant(one, which));
    if (run === undefined) {
      throw new Failure(
        'not_found',
        `there is no run "${which}", and no plan of that name has moved VMs here`,
        {
          hint: 'The command belongs at the site where the VMs run now. List its runs with: antipode runs',
        },
      );
    }
    if (run.plan.kind !== 'test') return run;
    throw new Failure('usage_invalid', `run ${run.id} is a test: its VMs are thrown away`, {
      hint: 'Name the plan, or a run that brought its VMs up for production: antipode runs',
    });
  }

  async #standing(run: Run): Promise<Standing[]> {
    const { db, identity } = this.#context;
    const steps = await stepsOf(db, run.id);
    const replicas = await listReplicas(db);
    const protections = await this.#parts.protections.list();
    const jobs = await jobsInState(db, UNDER_WAY);
    return Promise.all(
      run.plan.vms.map(async (vm) => {
        const replica = replicas.find(({ id }) => id === vm.replicaId);
        const claim = await this.#parts.claims.find(vm.vmUuid);
        const isUp = steps.some(
          ({ vmUuid, body, state }) => vmUuid === vm.vmUuid && body.kind === 'recover' && state === 'done',
        );
        const isHere = isUp && replica?.state === 'recovered' && claim?.site_id === identity.siteId;
        const job = jobs.find((one) => one.replica_id === vm.replicaId && one.request.purpose !== 'test');
        const protection = protections.find(
          (one) => one.vm_uuid === vm.vmUuid && one.target_site_id === vm.sourceSiteId,
        );
        return { vm, replica, isHere, job, protection };
      }),
    );
  }

  async #peersOf(wanted: readonly Standing[]): Promise<PeerRow[]> {
    const ids = new Set(wanted.map(({ vm }) => vm.sourceSiteId));
    return Promise.all([...ids].map((id) => this.#parts.peers.find(id)));
  }

  /** What is recorded of a VM; throws what its host says against it. */
  #intent({ replica }: Standing): Parameters<typeof recordReprotection>[2] {
    const { agent, vm } = this.#context.inventory.findVm(replica!.vm_uuid);
    checkVm(vm);
    const disks = replicatedKeys(replica!, vm);
    chooseDisks(vm, disks);
    return { replicaId: replica!.id, vmName: vm.name, hostId: agent.id, disks };
  }

  /** What the other site says is kept by the protections, and shown from there. */
  async #ask(peer: PeerRow): Promise<void> {
    try {
      await this.#parts.protections.reconcile(peer);
    } catch (error) {
      if (failureIn(error) === undefined) throw error;
      this.#context.log.info('reprotect.site_silent', { site: peer.site_name, ...failureFields(error) });
    }
  }

  async #view(run: Run): Promise<RunReprotection> {
    const peers = await this.#parts.peers.list();
    const vms = (await this.#standing(run)).map((each): RunReprotectionVm => {
      const { vm, protection } = each;
      const siteName = peers.find(({ site_id: id }) => id === vm.sourceSiteId)?.site_name;
      const failure =
        protection === undefined
          ? this.#parts.protections.refusalOf(vm.vmUuid, vm.sourceSiteId)
          : this.#parts.protections.failureOf(protection.id);
      return {
        vm_uuid: vm.vmUuid,
        vm_name: vm.vmName,
        site_id: vm.sourceSiteId,
        site_name: siteName ?? vm.sourceSiteId,
        state: stateOf(each),
        protection_id: protection?.id ?? null,
        rpo_ms: protection?.rpo_ms ?? null,
        failure: failure === undefined ? null : problemOf(failure),
      };
    });
    return { run_id: run.id, plan: run.plan.planName, vms };
  }
}

function stateOf({ isHere, job, protection }: Standing): RunReprotectionVm['state'] {
  if (!isHere) return 'not_here';
  if (job !== undefined) return 'recovering';
  if (needsProtection(protection)) return 'unprotected';
  const state = protection!.state;
  return state === 'removing' || state === 'superseded' ? 'unprotected' : state;
}

/** What was superseded is the protection from before the VM moved, the other way. */
function needsProtection(protection: Protection | undefined): boolean {
  return protection === undefined || protection.state === 'superseded';
}

function isMeant({ plan, state }: Run, name: string): boolean {
  return plan.planName === name && plan.kind !== 'test' && state !== 'cleaned';
}

function underWay(run: Run): Failure {
  return new Failure('conflict', `run ${run.id} of plan ${run.plan.planName} is ${run.state}`, {
    hint: `Wait for its end: antipode runs ${run.id}`,
  });
}

function nothingHere(run: Run, standing: readonly Standing[]): Failure {
  const what = `run ${run.id} of plan ${run.plan.planName}`;
  const waiting = standing.filter(({ isHere }) => isHere);
  if (waiting.length === 0) {
    return new Failure('conflict', `no VM that ${what} brought up runs here any more`, {
      hint: 'They may have gone home since: antipode fence',
    });
  }
  const job = waiting[0]!.job!;
  return new Failure('conflict', `the VMs that ${what} brought up are not done yet`, {
    hint: `See how they stand with: antipode recoveries ${job.id}`,
  });
}
