/**
 * What a caller may do: the roles it was given, and what each role consists of, which is the one table of permission
 * -> roles.
 */
import type { Grant, Me, Permission, Role } from '#/api/access.ts';

export const ADMINISTRATOR: readonly Grant[] = [{ role: 'administrator', group_id: null }];

/** Everybody who is let in may see the site: who acts in a disaster has to know how the rest stands. */
const ROLES_WITH: Record<Permission, readonly Role[]> = {
  'site.view': [
    'administrator',
    'plan-administrator',
    'recovery-operator',
    'test-operator',
    'protection-administrator',
    'read-only',
  ],
  'site.manage': ['administrator'],
  'access.manage': ['administrator'],
  'protection.manage': ['administrator', 'protection-administrator'],
  'plan.manage': ['administrator', 'plan-administrator'],
  'recovery.test': ['administrator', 'plan-administrator', 'recovery-operator', 'test-operator'],
  'recovery.run': ['administrator', 'recovery-operator'],
  // A keyboard at a VM: of a test, and of one that runs here for production.
  'console.test': ['administrator', 'plan-administrator', 'recovery-operator', 'test-operator'],
  'console.run': ['administrator', 'recovery-operator'],
};
const ALL = Object.keys(ROLES_WITH) as Permission[];

/** On everything. */
export function holds(grants: readonly Grant[], permission: Permission): boolean {
  return grants.some((one) => one.group_id === null && ROLES_WITH[permission].includes(one.role));
}

/** The groups on whose VMs it is held, besides where it is held on everything. */
export function groupsWith(grants: readonly Grant[], permission: Permission): string[] {
  const those = grants.filter((one) => one.group_id !== null && ROLES_WITH[permission].includes(one.role));
  return [...new Set(those.map((one) => one.group_id!))];
}

export function permissionsOf(grants: readonly Grant[]): Pick<Me, 'permissions' | 'on_groups'> {
  const permissions = ALL.filter((one) => holds(grants, one));
  const groupIds = [...new Set(grants.flatMap((one) => (one.group_id === null ? [] : [one.group_id])))];
  const more = ALL.filter((one) => !permissions.includes(one));
  return {
    permissions,
    on_groups: groupIds.map((groupId) => ({
      group_id: groupId,
      permissions: more.filter((one) => groupsWith(grants, one).includes(groupId)),
    })),
  };
}
