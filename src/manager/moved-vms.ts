/** The VMs that a run of a plan brought up here for production, and how each stands now. */
import { Failure } from '#/lib/failure.ts';
import type { Claims } from './claims.ts';
import type { Context } from './context.ts';
import type { RunVm } from './runs/run-plan.ts';
import { jobsInState, type Job } from './store/job-store.ts';
import { listReplicas, type ReplicaRecord } from './store/replica-store.ts';
import { findRun, listRuns, stepsOf, type Run } from './store/run-store.ts';

/** Runs that are looked through for the newest of a plan. */
const RUNS_MAX = 1000;
/** In these a recovery may still change its VM. */
const UNDER_WAY = ['running', 'ready', 'cleaning', 'failed'] as const;

export type MovedHere = {
  vm: RunVm;
  replica: ReplicaRecord | undefined;
  /** It was brought up by this run, and runs here since: no other site has claimed it. */
  isHere: boolean;
  /** Its recovery, when that has not come to its end. */
  job: Job | undefined;
  /** The run has given its guest other addresses. */
  hasOtherAddresses: boolean;
};

/**
 * A run's id, or a plan's name, which means its newest run that brought VMs up for production. Throws not_found, and
 * usage_invalid for a test.
 */
export async function findMove({ db }: Context, which: string): Promise<Run> {
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

function isMeant({ plan, state }: Run, name: string): boolean {
  return plan.planName === name && plan.kind !== 'test' && state !== 'cleaned';
}

export async function movedHere(context: Context, claims: Claims, run: Run): Promise<MovedHere[]> {
  const { db, identity } = context;
  const steps = (await stepsOf(db, run.id)).filter(({ state }) => state === 'done');
  const replicas = await listReplicas(db);
  const jobs = await jobsInState(db, UNDER_WAY);
  return Promise.all(
    run.plan.vms.map(async (vm) => {
      const replica = replicas.find(({ id }) => id === vm.replicaId);
      const claim = await claims.find(vm.vmUuid);
      const isDone = (kind: string): boolean =>
        steps.some(({ vmUuid, body }) => vmUuid === vm.vmUuid && body.kind === kind);
      return {
        vm,
        replica,
        isHere: isDone('recover') && replica?.state === 'recovered' && claim?.site_id === identity.siteId,
        job: jobs.find((one) => one.replica_id === vm.replicaId && one.request.purpose !== 'test'),
        hasOtherAddresses: isDone('customize'),
      };
    }),
  );
}

/** Throws conflict while the run may still bring VMs up. */
export function checkIsOver(run: Run): void {
  if (run.state !== 'running' && run.state !== 'cleaning') return;
  throw new Failure('conflict', `run ${run.id} of plan ${run.plan.planName} is ${run.state}`, {
    hint: `Wait for its end: antipode runs ${run.id}`,
  });
}

/** Why none of them can go on from here. */
export function nothingHere(run: Run, moved: readonly MovedHere[]): Failure {
  const what = `run ${run.id} of plan ${run.plan.planName}`;
  const job = moved.find(({ isHere }) => isHere)?.job;
  if (job === undefined) {
    return new Failure('conflict', `no VM that ${what} brought up runs here any more`, {
      hint: 'They may have gone home since: antipode fence',
    });
  }
  return new Failure('conflict', `the VMs that ${what} brought up are not done yet`, {
    hint: `See how they stand with: antipode recoveries ${job.id}`,
  });
}
