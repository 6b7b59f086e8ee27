/** Roles, each on everything or on one protection group. */
import { Button, Flex, FormGroup, FormSelect, FormSelectOption } from '@patternfly/react-core';
import type { Body } from '#/api/types.ts';
import { useCall } from '#/api/use-call.ts';

export type Grants = NonNullable<Body<'POST /api/v1/users'>['grants']>;
export type Role = Grants[number]['role'];

const ROLES: readonly (readonly [role: Role, says: string])[] = [
  ['administrator', 'Administrator: everything, also users'],
  ['plan-administrator', 'Plan administrator: edits and tests plans'],
  ['recovery-operator', 'Recovery operator: tests and recovers'],
  ['test-operator', 'Test operator: tests'],
  ['protection-administrator', 'Protection administrator: protects VMs'],
  ['read-only', 'Read only'],
];

export function GrantsField({ grants, onChange }: { grants: Grants; onChange: (grants: Grants) => void }) {
  const groups = useCall('GET /api/v1/groups', ['site']);
  const put = (index: number, change: Partial<Grants[number]>) =>
    onChange(grants.map((grant, at) => (at === index ? { ...grant, ...change } : grant)));
  return (
    <FormGroup label="Roles" role="group" fieldId="grants" className="stack">
      {grants.map((grant, index) => (
        // Rows have no identity but their place.
        <Flex key={index} gap={{ default: 'gapSm' }} flexWrap={{ default: 'nowrap' }}>
          <FormSelect
            aria-label={`Role ${index + 1}`}
            value={grant.role}
            onChange={(_event, value) => put(index, { role: value as Role })}
          >
            {ROLES.map(([role, says]) => (
              <FormSelectOption key={role} value={role} label={says} />
            ))}
          </FormSelect>
          <FormSelect
            aria-label={`What role ${index + 1} is on`}
            value={grant.group ?? ''}
            onChange={(_event, value) => put(index, { group: value === '' ? null : value })}
          >
            <FormSelectOption value="" label="on everything" />
            {(groups.data?.items ?? []).map((group) => (
              <FormSelectOption key={group.id} value={group.id} label={`on group ${group.document.name}`} />
            ))}
          </FormSelect>
          <Button
            variant="link"
            className="keep-width"
            isDisabled={grants.length === 1}
            aria-label={`Take role ${index + 1} away`}
            onClick={() => onChange(grants.filter((_grant, at) => at !== index))}
          >
            Remove
          </Button>
        </Flex>
      ))}
      <div>
        <Button variant="link" isInline onClick={() => onChange([...grants, { role: 'read-only' }])}>
          Another role
        </Button>
      </div>
    </FormGroup>
  );
}

/** Roles as people read them. */
export function useGrantWords(): (grants: readonly { role: string; group_id: string | null }[]) => string {
  const groups = useCall('GET /api/v1/groups', ['site']);
  const names = new Map((groups.data?.items ?? []).map((group) => [group.id, group.document.name]));
  return (grants) =>
    grants
      .map(({ group_id: id, role }) =>
        id === null ? role : `${role} on ${names.get(id) ?? 'a group that is gone'}`,
      )
      .join(', ');
}
