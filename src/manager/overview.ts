/** What flows between the sites, and what waits for a person. */
import type { Flow, Need } from '#/api/overview.ts';
import type { Site } from '#/api/inventory.ts';
import type { VmRow } from '#/api/vm-table.ts';
import type { Manager } from './manager.ts';
import { jobsInState } from './store/job-store.ts';
import { runsInState, stepsOf } from './store/run-store.ts';

/** Runs in these states are looked into; there are never many, and this bounds the work if there are. */
const RUNS_MAX = 50;

/** One for each direction between this site and a paired one in which VMs are protected or kept. */
export function flowsOf(rows: readonly VmRow[], sites: readonly Site[], self: string): Flow[] {
  const flows = new Map<string, Flow>();
  const flow = (from: string, to: string): Flow => {
    const key = JSON.stringify([from, to]);
    const known = flows.get(key) ?? {
      from,
      to,
      vm_count: 0,
      violated_count: 0,
      unknown_count: 0,
      bytes_per_s: 0,
    };
    flows.set(key, known);
    return known;
  };
  for (const { name } of sites.filter((site) => !site.is_self)) {
    flow(self, name);
    flow(name, self);
  }
  for (const row of rows) {
    for (const status of row.statuses) {
      if (row.standing === 'kept') continue;
      const one = flow(status.protected_site, status.recovery_site);
      one.vm_count++;
      if (status.rpo === 'violated') one.violated_count++;
      if (status.rpo === 'unknown') one.unknown_count++;
      if (status.rpo !== 'unknown') one.bytes_per_s += row.change_bytes_per_s ?? 0;
    }
  }
  return [...flows.values()];
}

/** The worst first. */
export async function gatherNeeds(
  manager: Manager,
  rows: readonly VmRow[],
  sites: readonly Site[],
): Promise<Need[]> {
  const needs = [
    ...siteNeeds(sites),
    ...programNeeds(manager),
    ...vmNeeds(rows),
    ...(await runNeeds(manager)),
    ...(await recoveryNeeds(manager)),
    ...(await planNeeds(manager)),
  ];
  const rank = { error: 0, warning: 1, info: 2 };
  return needs.toSorted((a, b) => rank[a.severity] - rank[b.severity]);
}

function siteNeeds(sites: readonly Site[]): Need[] {
  return sites
    .filter((site) => site.is_reachable === false)
    .map((site) => ({
      severity: 'error',
      subject: { kind: 'site', id: site.id, name: site.name },
      text: `The manager of site ${site.name} does not answer.`,
      hint: site.failure?.message ?? null,
      since_ms: site.contact_ms,
    }));
}

function programNeeds({ context: { inventory } }: Manager): Need[] {
  const silent = (kind: 'host' | 'replication-server', what: string) =>
    (kind === 'host' ? inventory.agents() : inventory.servers())
      .filter((member) => !inventory.isFresh(member))
      .map((member): Need => ({
        severity: 'error',
        subject: { kind, id: member.id, name: member.name },
        text: `${what} ${member.name} does not report.`,
        hint: 'What it does now is not known. Look at its machine and at the log of its program.',
        since_ms: member.reportMs ?? null,
      }));
  const broken = inventory.agents().flatMap((agent): Need[] => {
    const failure = agent.report?.host.libvirt_failure;
    if (failure === null || failure === undefined || !inventory.isFresh(agent)) return [];
    return [
      {
        severity: 'error',
        subject: { kind: 'host', id: agent.id, name: agent.name },
        text: `Host ${agent.name} does not reach libvirt: ${failure.message}`,
        hint: failure.hint,
        since_ms: null,
      },
    ];
  });
  return [...silent('host', 'Host'), ...silent('replication-server', 'Replication server'), ...broken];
}

function vmNeeds(rows: readonly VmRow[]): Need[] {
  return rows.flatMap((row) =>
    row.statuses.flatMap((status): Need[] => {
      const subject = { kind: 'vm', id: row.vm_uuid, name: row.vm_name } as const;
      if (status.rpo === 'violated') {
        const text = `VM ${row.vm_name} is older at ${status.recovery_site} than its RPO allows.`;
        const hint = status.failure === null ? null : status.failure.message;
        return [{ severity: 'error', subject, text, hint, since_ms: status.violated_since_ms }];
      }
      if (status.failure === null) return [];
      const { message, hint } = status.failure;
      return [{ severity: 'warning', subject, text: `VM ${row.vm_name}: ${message}`, hint, since_ms: null }];
    }),
  );
}

async function runNeeds({ context: { db } }: Manager): Promise<Need[]> {
  const runs = (await runsInState(db, ['running', 'ready', 'failed'])).slice(0, RUNS_MAX);
  const needs: Need[] = [];
  for (const run of runs) {
    const subject = { kind: 'run', id: run.id, name: run.plan.planName } as const;
    const of = { subject, hint: null, since_ms: run.updatedMs };
    if (run.state === 'ready') {
      needs.push({
        ...of,
        severity: 'info',
        text: `The test of plan ${subject.name} waits for its cleanup.`,
      });
    } else if (run.state === 'failed') {
      const text = `The run of plan ${subject.name} failed, and can be resumed or cleaned up.`;
      needs.push({ ...of, severity: 'error', text });
    } else {
      const asked = (await stepsOf(db, run.id)).find(
        (step) => step.body.kind === 'message' && step.state === 'running',
      );
      if (asked?.body.kind !== 'message') continue;
      needs.push({
        ...of,
        severity: 'warning',
        text: `The run of plan ${subject.name} asks: ${asked.body.text}`,
      });
    }
  }
  return needs;
}

async function recoveryNeeds({ context: { db } }: Manager): Promise<Need[]> {
  const jobs = await jobsInState(db, ['ready', 'failed']);
  // The jobs of a run are its business.
  const own = jobs.filter((job) => !job.id.startsWith('run-'));
  return own.slice(0, RUNS_MAX).map((job) => {
    const isReady = job.state === 'ready';
    return {
      severity: isReady ? 'info' : 'error',
      subject: { kind: 'recovery', id: job.id, name: job.request.vm_name },
      text: isReady
        ? `The test of VM ${job.request.vm_name} waits for its cleanup.`
        : `The ${job.request.purpose} of VM ${job.request.vm_name} failed, and can be cleaned up.`,
      hint: job.failure?.message ?? null,
      since_ms: job.updated_ms,
    };
  });
}

async function planNeeds({ readiness }: Manager): Promise<Need[]> {
  return (await readiness.list())
    .filter((view) => !view.is_ready)
    .map((view) => ({
      severity: 'warning',
      subject: { kind: 'plan', id: view.plan, name: view.plan },
      text: `Plan ${view.plan} would not come up whole.`,
      hint: view.findings.find((finding) => finding.severity === 'error')?.text ?? null,
      since_ms: null,
    }));
}
