/** What one call needs: the row of the table in endpoints.ts. */
import type { Permission } from '#/api/access.ts';
import type { Manager } from '#/manager/manager.ts';

export type Demand = {
  permission: Permission;
  /** On these VMs, on the members of these groups, or on more than any group has. */
  on: { vmUuids: readonly string[] } | { groups: readonly string[] } | 'everything';
};
export type Sent = { params: unknown; query: unknown; body: unknown };
export type Resolve = (sent: Sent, manager: Manager) => Promise<Demand>;
export type Rule = {
  /** Any of them lets the call in; `of` decides which. Undefined: everybody who has signed in, for what is own. */
  needs: readonly Permission[] | undefined;
  of?: Resolve;
};

type Fields = Record<string, unknown>;
export const inBody = ({ body }: Sent, name: string): unknown => (body as Fields)[name];
export const inPath = ({ params }: Sent, name: string): string => String((params as Fields)[name]);
