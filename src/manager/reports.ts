/** Takes the reports of agents and replication servers in: inventory, tasks, events. */
import type { AgentReport, ServerReport, TaskReport, EventReport } from '#/control/reports.ts';
import type { Context } from './context.ts';
import { reportTask } from './store/task-store.ts';

export async function takeAgentReport(context: Context, id: string, report: AgentReport): Promise<void> {
  const before = vmSet(context.inventory.agent(id)?.report);
  await context.inventory.takeAgentReport(id, report);
  // A VM that moved to another host takes its protection along.
  if (vmSet(report) !== before) context.changes.notify('orders');
  await takeRest(context, id, report);
}

export async function takeServerReport(context: Context, id: string, report: ServerReport): Promise<void> {
  await context.inventory.takeServerReport(id, report);
  await takeRest(context, id, report);
}

async function takeRest(
  context: Context,
  id: string,
  report: { tasks: TaskReport[]; events: EventReport[] },
): Promise<void> {
  for (const event of report.events) await context.events.take(context.db, id, event);
  let isChanged = false;
  for (const task of report.tasks) {
    if (await reportTask(context.db, id, task)) isChanged = true;
  }
  if (!isChanged) return;
  context.changes.notify('jobs');
  context.changes.notify('orders');
}

function vmSet(report: AgentReport | undefined): string {
  return (report?.vms ?? [])
    .map((vm) => vm.uuid)
    .toSorted()
    .join();
}
