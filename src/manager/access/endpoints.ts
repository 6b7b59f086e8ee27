/**
 * What a person needs for each call: the one table of endpoint -> permission. A call that is not in it is for those who
 * manage the site, so that what is forgotten is closed.
 *
 * `of` tells, from what was sent, what exactly is needed and on which VMs or groups: with it, a role on a protection
 * group is enough where it covers all of them. Without it, the role has to be on everything; seeing is for everybody
 * who has any role, and lists show of plans, groups, runs and fences what the role covers (scope.ts).
 */
import * as plan from './plan-rules.ts';
import { inBody, inPath, type Rule, type Sent } from './rule.ts';
import type { Manager } from '#/manager/manager.ts';

const OWN: Rule = { needs: undefined };
const VIEW: Rule = { needs: ['site.view'] };
const SITE: Rule = { needs: ['site.manage'] };
const ACCESS: Rule = { needs: ['access.manage'] };
const PLAN: Rule = { needs: ['plan.manage'] };
const RECOVERY = ['recovery.test', 'recovery.run'] as const;
const CONSOLE = ['console.test', 'console.run'] as const;

const protection = (vmUuid: (sent: Sent, manager: Manager) => Promise<string>): Rule => ({
  needs: ['protection.manage'],
  of: async (sent, manager) => ({
    permission: 'protection.manage',
    on: { vmUuids: [await vmUuid(sent, manager)] },
  }),
});

const ofReplica = protection(async (sent, { replicas }) => (await replicas.find(inPath(sent, 'id'))).vm_uuid);

const startRecovery: Rule = {
  needs: RECOVERY,
  of: async (sent, { replicas }) => ({
    permission: inBody(sent, 'purpose') === 'test' ? 'recovery.test' : 'recovery.run',
    on: { vmUuids: [(await replicas.find(String(inBody(sent, 'vm')))).vm_uuid] },
  }),
};

const endRecovery: Rule = {
  needs: RECOVERY,
  of: async (sent, { recoveries, replicas }) => {
    const { request, replica_id: id } = await recoveries.toCleanUp(inPath(sent, 'id'));
    const replica = (await replicas.list()).find((known) => known.id === id);
    return {
      permission: request.purpose === 'test' ? 'recovery.test' : 'recovery.run',
      on: { vmUuids: [replica?.vm_uuid ?? 'gone'] },
    };
  },
};

const openConsole: Rule = {
  needs: CONSOLE,
  of: (sent, { consoles }) => consoles.demandOf(inPath(sent, 'id')),
};

/** As for opening it, for as long as it is open. */
const showConsole: Rule = {
  needs: CONSOLE,
  of: (sent, { consoles }) => consoles.demandOf(consoles.recoveryOf(inPath(sent, 'id'))),
};

const startRun: Rule = {
  needs: RECOVERY,
  of: async (sent, { plans }) => {
    // The plan of a failback is another site's: no group of this one says what it moves.
    if (inBody(sent, 'kind') === 'failback') return { permission: 'recovery.run', on: { groups: [] } };
    return {
      permission: inBody(sent, 'kind') === 'test' ? 'recovery.test' : 'recovery.run',
      on: { groups: (await plans.find(String(inBody(sent, 'plan')))).document.groups },
    };
  },
};

/** By its VMs, which stay those that it began with when the plan is changed. */
const steerRun: Rule = {
  needs: RECOVERY,
  of: async (sent, { runs }) => {
    const { kind, vms } = await runs.show(inPath(sent, 'id'));
    return {
      permission: kind === 'test' ? 'recovery.test' : 'recovery.run',
      on: { vmUuids: vms.map((vm) => vm.vm_uuid) },
    };
  },
};

export const RULES: Readonly<Record<string, Rule>> = {
  'GET /api/v1/me': OWN,
  'POST /api/v1/logout': OWN,
  'POST /api/v1/password': OWN,
  'GET /api/v1/sessions': OWN,
  'DELETE /api/v1/sessions/:id': OWN,

  'GET /api/v1/site': VIEW,
  'GET /api/v1/sites': VIEW,
  'GET /api/v1/hosts': VIEW,
  'GET /api/v1/replication-servers': VIEW,
  'GET /api/v1/vms': VIEW,
  'GET /api/v1/status': VIEW,
  'GET /api/v1/overview': VIEW,
  'GET /api/v1/vm-table': VIEW,
  'GET /api/v1/vms/:id': VIEW,
  'GET /api/v1/replicas/:id': VIEW,
  'GET /api/v1/protection-check': VIEW,
  'GET /api/v1/events': VIEW,
  'GET /api/v1/events/stream': VIEW,
  'GET /api/v1/protections': VIEW,
  'GET /api/v1/protections/:id': VIEW,
  'POST /api/v1/protections/:id/check': VIEW,
  'GET /api/v1/replicas': VIEW,
  'GET /api/v1/points': VIEW,
  'GET /api/v1/recoveries': VIEW,
  'GET /api/v1/recoveries/:id': VIEW,
  'GET /api/v1/jobs': VIEW,
  'GET /api/v1/jobs/:id': VIEW,
  'GET /api/v1/mappings': VIEW,
  'GET /api/v1/groups': VIEW,
  'GET /api/v1/groups/:id': plan.seeGroup,
  'GET /api/v1/plans': VIEW,
  'GET /api/v1/plans/:id': plan.seePlan,
  'GET /api/v1/plans/:id/file': plan.seePlan,
  'GET /api/v1/plans/:id/details': plan.seePlan,
  'GET /api/v1/plans/:id/addresses': plan.seePlan,
  'GET /api/v1/plans/:id/readiness': plan.seePlan,
  'GET /api/v1/readiness': VIEW,
  'GET /api/v1/runs': VIEW,
  'GET /api/v1/runs/:id': plan.seeRun,
  'POST /api/v1/runs/check': plan.checkRun,
  'GET /api/v1/runs/:id/reprotection': plan.seeRun,
  'GET /api/v1/alarms': VIEW,
  'GET /metrics': VIEW,
  'GET /api/v1/seeds/:vm': VIEW,
  'GET /api/v1/retired': VIEW,
  'GET /api/v1/fences': VIEW,
  'GET /api/v1/rebuild': VIEW,
  'GET /api/v1/reports': VIEW,
  'GET /api/v1/reports/:id': VIEW,
  'GET /api/v1/reports/:id/files/:file': VIEW,
  'GET /api/v1/reports/:id/pictures': VIEW,
  'GET /api/v1/reports/:id/pictures/:picture': VIEW,
  'GET /api/v1/report-authority': VIEW,

  'DELETE /api/v1/hosts/:id': SITE,
  'DELETE /api/v1/replication-servers/:id': SITE,
  'POST /api/v1/join-tokens': SITE,
  'POST /api/v1/pairing-tokens': SITE,
  'POST /api/v1/pairings': SITE,
  'POST /api/v1/rebuild': SITE,
  'POST /api/v1/rebuild/abandon': SITE,

  'GET /api/v1/audit': ACCESS,
  'GET /api/v1/audit/rows': ACCESS,
  'GET /api/v1/audit/verification': ACCESS,
  'POST /api/v1/first-links': ACCESS,
  'POST /api/v1/tokens': ACCESS,
  'GET /api/v1/tokens': ACCESS,
  'DELETE /api/v1/tokens/:id': ACCESS,
  'GET /api/v1/users': ACCESS,
  'POST /api/v1/users': ACCESS,
  'DELETE /api/v1/users/:name': ACCESS,
  'POST /api/v1/users/:name/grants': ACCESS,
  'POST /api/v1/users/:name/password': ACCESS,
  'POST /api/v1/users/:name/reset-link': ACCESS,
  'GET /api/v1/identity-provider': ACCESS,
  'POST /api/v1/users/:name/lock': ACCESS,
  'POST /api/v1/users/:name/unlock': ACCESS,

  'POST /api/v1/protections': protection(
    async (sent, { context }) => context.inventory.findVm(String(inBody(sent, 'vm'))).vm.uuid,
  ),
  'POST /api/v1/protections/:id': protection(async (sent, { protections }) => {
    const { site } = sent.query as { site?: string };
    return (await protections.find(inPath(sent, 'id'), site)).vm_uuid;
  }),
  'DELETE /api/v1/protections/:id': protection(async (sent, { protections }) => {
    const { site } = sent.query as { site?: string };
    return (await protections.find(inPath(sent, 'id'), site)).vm_uuid;
  }),
  'POST /api/v1/replicas/:id/bookmarks': ofReplica,
  'DELETE /api/v1/replicas/:id/bookmarks/:sequence': ofReplica,
  'DELETE /api/v1/replicas/:id': ofReplica,
  'DELETE /api/v1/retired/:id': plan.removeRetired,

  'POST /api/v1/mappings': PLAN,
  'DELETE /api/v1/mappings': PLAN,
  'POST /api/v1/groups': PLAN,
  'POST /api/v1/groups/:id': plan.changeGroup,
  'POST /api/v1/groups/:id/vms': plan.changeMembers,
  'DELETE /api/v1/groups/:id': plan.deleteGroup,
  'POST /api/v1/plans': plan.createPlan,
  'POST /api/v1/plans/:id': plan.changePlan,
  'DELETE /api/v1/plans/:id': plan.deletePlan,
  'POST /api/v1/plan-files': plan.importPlan,

  'POST /api/v1/reprotections': {
    needs: ['recovery.run'],
    of: async (sent, { replicas }) => ({
      permission: 'recovery.run',
      on: { vmUuids: [(await replicas.find(String(inBody(sent, 'vm')))).vm_uuid] },
    }),
  },
  'POST /api/v1/runs/:id/reprotection': {
    needs: ['recovery.run'],
    of: async (sent, { runs }) => {
      const { vms } = await runs.show(inPath(sent, 'id'));
      return { permission: 'recovery.run', on: { vmUuids: vms.map((vm) => vm.vm_uuid) } };
    },
  },
  'POST /api/v1/alarms/:id/acknowledge': {
    needs: ['site.manage', 'protection.manage', 'plan.manage', 'recovery.test', 'recovery.run'],
  },
  'POST /api/v1/recoveries': startRecovery,
  'POST /api/v1/recoveries/:id/consoles': openConsole,
  'GET /api/v1/consoles/:id': showConsole,
  'POST /api/v1/recoveries/:id/cleanup': endRecovery,
  'POST /api/v1/recoveries/:id/retry': endRecovery,
  'DELETE /api/v1/recoveries/:id': endRecovery,
  'POST /api/v1/runs': startRun,
  'POST /api/v1/runs/:id/cancel': steerRun,
  'POST /api/v1/runs/:id/resume': steerRun,
  'POST /api/v1/runs/:id/cleanup': steerRun,
  'POST /api/v1/runs/:id/steps/:key/answer': steerRun,
  'POST /api/v1/runs/:id/steps/:key/skip': steerRun,
  'POST /api/v1/fences/:vm/release': plan.releaseFence,
};

export function ruleOf(route: { method: string; path: string }): Rule {
  return RULES[`${route.method} ${route.path}`] ?? SITE;
}
