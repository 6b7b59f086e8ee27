/** How what is found is told. */
import type { ReadinessFinding } from '#/api/readiness.ts';

type Judged = Pick<ReadinessFinding, 'severity' | 'code' | 'text'> & { hint?: string | null };
export type Judge = (subject: ReadinessFinding['subject'], finding: Judged) => void;

export function ofVm({ name, uuid }: { name: string; uuid: string }): ReadinessFinding['subject'] {
  return { kind: 'vm', id: uuid, name };
}
