/** What tasks on guests have begun: the process that is to be ended or waited for when the task is repeated. */
import { Type } from 'typebox';
import { TaskFiles } from '#/agent/task-files.ts';

const GuestRecord = Type.Object({ pid: Type.Integer() });

export type GuestRecords = TaskFiles<typeof GuestRecord>;

export function guestRecords(directory: string): GuestRecords {
  return new TaskFiles(directory, 'guest', GuestRecord);
}
