/** The tasks a recovery orders. Their ids follow from the job, so ordering one again orders nothing new. */
import { Check } from 'typebox/value';
import { RecoverTask } from '#/control/orders.ts';
import type { TaskReport } from '#/control/reports.ts';
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import { Failure } from '#/lib/failure.ts';
import type { AgentMember } from './inventory.ts';
import type { Job } from './store/job-store.ts';

export const viewTaskId = (jobId: string): string => `${jobId}-view`;
export const recoverTaskId = (jobId: string): string => `${jobId}-recover`;
export const discardTaskId = (jobId: string): string => `${jobId}-discard`;
export const closeTaskId = (jobId: string): string => `${jobId}-close`;

export type OpenedView = RecoverTask['view'];
const ViewSchema = RecoverTask.properties.view;

/** What the replication server answered to open_view. Throws protocol_corrupt. */
export function viewOf(report: TaskReport | null): OpenedView {
  if (Check(ViewSchema, report?.result)) return report.result;
  throw new Failure('protocol_corrupt', 'the replication server reported a view in a form not known here', {
    hint: 'Run the same version of Antipode on the manager and the replication server.',
  });
}

type Way = {
  claim: EpochClaim | undefined;
  journey: NonNullable<RecoverTask['journey']>;
  /** To the site that it was protected from. */
  comesHome: boolean;
};

export function recoverTask(
  job: Job,
  view: OpenedView,
  host: AgentMember,
  { claim, journey, comesHome }: Way,
): RecoverTask {
  const { request } = job;
  const testNetwork = request.test_network ?? undefined;
  return {
    id: recoverTaskId(job.id),
    kind: 'recover',
    replica_id: job.replica_id,
    view,
    name: request.name,
    purpose: request.purpose === 'test' ? 'test' : 'recovery',
    epoch: claim?.epoch ?? request.epoch,
    ...(claim === undefined ? {} : { claim }),
    networks: request.networks,
    ...(request.purpose === 'test' ? {} : { journey, retires_old_copy: true }),
    ...(comesHome ? { restores_addresses: true } : {}),
    ...(request.start === false ? { start: false } : {}),
    ...(request.edit === undefined ? {} : { edit: request.edit }),
    // A test is isolated unless it was told which networks to use.
    ...(testNetwork === undefined ? {} : { test_network: testNetwork }),
    default_network: request.purpose === 'test' ? null : defaultNetwork(host),
    storage_path: request.storage_path ?? host.report?.host.storage_path ?? '',
    sign_of_life: { serial_text: request.serial_text, timeout_ms: request.sign_of_life_timeout_ms },
  };
}

/** A network of the same name is mapped by the agent; this is for those that have none here. */
function defaultNetwork(host: AgentMember): string | null {
  const networks = host.report?.host.networks ?? [];
  return networks.includes('default') ? 'default' : (networks[0] ?? null);
}
