/** Tasks of agents and replication servers: what was ordered, and what they last said about it. */
import type { AgentTask, ServerTask } from '#/control/orders.ts';
import type { TaskReport } from '#/control/reports.ts';
import type { Selectable } from 'kysely';
import type { Database } from './database.ts';
import type { TasksTable } from './schema.ts';

type Row = Selectable<TasksTable>;
export type Task = Omit<Row, 'body' | 'report'> & { body: AgentTask | ServerTask; report: TaskReport | null };

/** Adding a task that is there already changes nothing, so a step that is repeated orders no second one. */
export async function addTask(
  db: Database,
  task: Pick<Task, 'id' | 'member_id' | 'job_id' | 'body' | 'created_ms'>,
): Promise<void> {
  await db
    .insertInto('tasks')
    .values({ ...task, body: JSON.stringify(task.body), state: 'ordered', report: null })
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute();
}

export async function findTask(db: Database, id: string): Promise<Task | undefined> {
  const row = await db.selectFrom('tasks').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? undefined : decode(row);
}

/** What a member is to do now: open views stay until their close is done. */
export async function orderedTasks(db: Database, memberId: string): Promise<Task[]> {
  const rows = await db
    .selectFrom('tasks')
    .selectAll()
    .where('member_id', '=', memberId)
    .where('state', 'in', ['ordered', 'running', 'done'])
    .orderBy('created_ms')
    .orderBy('id')
    .limit(1000)
    .execute();
  return rows.map(decode).filter((task) => task.state !== 'done' || task.body.kind === 'open_view');
}

/** Takes a report over unless the task has come to its end already. True when that changed what is known. */
export async function reportTask(db: Database, memberId: string, report: TaskReport): Promise<boolean> {
  const text = JSON.stringify(report);
  const { numUpdatedRows } = await db
    .updateTable('tasks')
    .set({ state: report.state, report: text })
    .where('id', '=', report.id)
    .where('member_id', '=', memberId)
    .where('state', 'in', ['ordered', 'running'])
    .where((where) => where.or([where('report', 'is', null), where('report', '!=', text)]))
    .executeTakeFirst();
  return numUpdatedRows === 1n;
}

/** A task that failed is ordered once more, as it was. */
export async function repeatTask(db: Database, id: string): Promise<void> {
  await db
    .updateTable('tasks')
    .set({ state: 'ordered', report: null })
    .where('id', '=', id)
    .where('state', '=', 'failed')
    .execute();
}

export async function withdrawTask(db: Database, id: string): Promise<void> {
  await db.updateTable('tasks').set({ state: 'withdrawn' }).where('id', '=', id).execute();
}

/** Of consoles that were opened before then. */
export async function dropConsoleTasks(db: Database, beforeMs: number): Promise<void> {
  await db.deleteFrom('tasks').where('id', 'like', 'console-%').where('created_ms', '<', beforeMs).execute();
}

/** What it came to is kept elsewhere, or of no use any more. */
export async function dropTask(db: Database, id: string): Promise<void> {
  await db.deleteFrom('tasks').where('id', '=', id).execute();
}

export async function tasksOfJob(db: Database, jobId: string): Promise<Task[]> {
  const rows = await db
    .selectFrom('tasks')
    .selectAll()
    .where('job_id', '=', jobId)
    .orderBy('created_ms')
    .orderBy('id')
    .execute();
  return rows.map(decode);
}

/** Tasks that fill replicas from old copies and have not come to their end. */
export async function openSeedTasks(db: Database): Promise<Task[]> {
  const rows = await db
    .selectFrom('tasks')
    .selectAll()
    .where('job_id', 'like', 'seed-%')
    .where('state', 'in', ['ordered', 'running'])
    .execute();
  return rows.map(decode);
}

function decode(row: Row): Task {
  return {
    ...row,
    body: JSON.parse(row.body) as Task['body'],
    report: row.report === null ? null : (JSON.parse(row.report) as TaskReport),
  };
}
