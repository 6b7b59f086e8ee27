/** Whether the copies of a VM at this site were seen to yield to a claim, by what its hosts report (I7). */
import type { ClaimAnswer } from '#/api/peer.ts';
import type { FenceReport } from '#/control/reports.ts';
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import type { Context } from './context.ts';
import type { AgentMember } from './inventory.ts';

/** Resolves as soon as the answer is final, and after `waitMs` with what is known then. */
export async function waitForYield(
  context: Context,
  claim: EpochClaim,
  options: { waitMs: number; signal: AbortSignal },
): Promise<ClaimAnswer> {
  const { changes, clock } = context;
  const endMs = clock.monotonicMs() + options.waitMs;
  for (;;) {
    let isReported = false;
    const stop = changes.listen('reports', () => (isReported = true));
    try {
      const { answer, isFinal } = look(context, claim);
      const leftMs = endMs - clock.monotonicMs();
      if (isFinal || leftMs <= 0 || options.signal.aborted) return answer;
      if (!isReported) await changes.next(['reports'], leftMs, options.signal);
    } finally {
      stop();
    }
  }
}

const OFF = ['shutoff', 'crashed'];

function look(context: Context, claim: EpochClaim): { answer: ClaimAnswer; isFinal: boolean } {
  const { config, inventory } = context;
  const answer = (state: ClaimAnswer['state'], message: string): ClaimAnswer => ({
    vm_uuid: claim.vm_uuid,
    state,
    message,
  });
  // A copy of the site that the claim names is the one that may run.
  const isOwn = claim.site_id === context.identity.siteId;
  const hosts = isOwn ? [] : inventory.agents().filter((agent) => hasCopy(agent, claim.vm_uuid));
  if (hosts.length === 0) {
    return { answer: answer('absent', `no host of site ${config.siteName} has a copy`), isFinal: true };
  }
  const silent = hosts.find((agent) => !inventory.isFresh(agent));
  if (silent !== undefined) {
    const why = `host ${silent.name} of site ${config.siteName} does not report: its copy may run until it does`;
    return { answer: answer('pending', why), isFinal: hosts.length === 1 };
  }
  const open = hosts.find((agent) => fenceOf(agent, claim)?.state !== 'yielded');
  if (open !== undefined) {
    const failure = fenceOf(open, claim)?.failure?.message ?? 'it has not said so yet';
    return { answer: answer('pending', `the copy on host ${open.name} may run: ${failure}`), isFinal: false };
  }
  const found = hosts.map((agent) => ({ host: agent.name, state: fenceOf(agent, claim)?.vm_state ?? '' }));
  const message = found.map(({ host, state }) => `on host ${host} it is ${state}`).join(', ');
  const isOff = found.every(({ state }) => OFF.includes(state));
  return { answer: { ...answer('yielded', message), is_off: isOff }, isFinal: true };
}

function hasCopy(agent: AgentMember, vmUuid: string): boolean {
  return agent.report?.vms.some((vm) => vm.uuid === vmUuid) === true;
}

function fenceOf(agent: AgentMember, claim: EpochClaim): FenceReport | undefined {
  return agent.report?.fences?.find((fence) => fence.vm_uuid === claim.vm_uuid && fence.epoch >= claim.epoch);
}
