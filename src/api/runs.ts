/** Runs of recovery plans: what is asked, what speaks against it, and how a run stands. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem, Text } from './common.ts';
import { PlanName, RunKind as Kind } from './plans.ts';

export const RunKind = Kind;
export type RunKind = Static<typeof RunKind>;

export const RunRequest = Type.Object(
  {
    plan: PlanName,
    kind: RunKind,
    /** Of a failback: name or id of the site where the VMs are; may be left out when only one has VMs by that plan. */
    site: Type.Optional(Name),
    /** Recovery points: the newest, or of each VM the newest that is not younger than this. Not for a migration. */
    at_ms: Type.Optional(Milliseconds),
    /** Of these VMs, by their names or UUIDs, that very point. */
    points: Type.Optional(Type.Record(Name, Type.Integer({ minimum: 1 }))),
  },
  closed,
);
export type RunRequest = Static<typeof RunRequest>;

const words = <const T extends readonly string[]>(...all: T) =>
  Type.Union(all.map((word) => Type.Literal(word))) as unknown as ReturnType<typeof Type.Unsafe<T[number]>>;

export const RunState = words(
  'running',
  /** The VMs of a test are up, and wait for the cleanup. */
  'ready',
  /** What was made is removed; what was shut down is started again. */
  'cleaning',
  'done',
  /** Came to an end with failed steps; can be resumed. */
  'failed',
  /** A disaster recovery that was stopped; what runs stays. Can be resumed. */
  'cancelled',
  /** Everything that was done is undone. */
  'cleaned',
);
export type RunState = Static<typeof RunState>;

export const RunVmCheck = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    priority: Type.Integer(),
    /** The point that it would come up from now, and how old that is. */
    point: nullable(Type.Integer()),
    moment_ms: nullable(Milliseconds),
    age_ms: nullable(Milliseconds),
    rpo_ms: Milliseconds,
    /** Whether the protected site's manager answers. */
    source: words('answers', 'silent'),
  },
  closed,
);
export type RunVmCheck = Static<typeof RunVmCheck>;

export const RunCheck = Type.Object(
  {
    plan: PlanName,
    kind: RunKind,
    /** It would be started: there is no refusal. */
    is_possible: Type.Boolean(),
    refusals: Type.Array(Problem),
    warnings: Type.Array(Text),
    vms: Type.Array(RunVmCheck),
  },
  closed,
);
export type RunCheck = Static<typeof RunCheck>;

export const RunStepView = Type.Object(
  {
    key: Id,
    kind: Type.String(),
    /** Of a message: what a person is asked. */
    text: Type.Optional(Text),
    phase: words('forward', 'undo'),
    name: Text,
    vm_uuid: nullable(Type.String()),
    state: words('waiting', 'running', 'done', 'failed', 'skipped'),
    after: Type.Array(Id),
    attempts: Type.Integer(),
    on_failure: words('abort', 'continue'),
    timeout_ms: nullable(Milliseconds),
    started_ms: nullable(Milliseconds),
    ended_ms: nullable(Milliseconds),
    failure: nullable(Problem),
    note: nullable(Type.String()),
    result: nullable(Type.Record(Type.String(), Type.Unknown())),
  },
  closed,
);
export type RunStepView = Static<typeof RunStepView>;

export const RunVmView = Type.Object(
  {
    vm_uuid: Type.String(),
    vm_name: Name,
    priority: Type.Integer(),
    /** The recovery job that brought it up. */
    job_id: nullable(Id),
    /**
     * up: it gave its sign of life; healthy: its steps are done; alone: it needs the replica no more; off: it is
     * defined and left off, as the plan says.
     */
    state: words('waiting', 'starting', 'up', 'healthy', 'alone', 'off', 'failed', 'removed'),
    point: nullable(Type.Integer()),
    moment_ms: nullable(Milliseconds),
    /** When it gave its sign of life, and when the last of its steps was done. */
    up_ms: nullable(Milliseconds),
    healthy_ms: nullable(Milliseconds),
  },
  closed,
);
export type RunVmView = Static<typeof RunVmView>;

export const RunView = Type.Object(
  {
    id: Id,
    plan: PlanName,
    kind: RunKind,
    state: RunState,
    vms: Type.Array(RunVmView),
    /** Left out of lists. */
    steps: Type.Optional(Type.Array(RunStepView)),
    step_count: Type.Integer(),
    done_count: Type.Integer(),
    /** When all VMs were up and every step of the plan was over; disks may still be pulled after. */
    up_ms: nullable(Milliseconds),
    /** Said by whom, when it was started. */
    started_by: Type.String(),
    warnings: Type.Array(Text),
    failure: nullable(Problem),
    created_ms: Milliseconds,
    updated_ms: Milliseconds,
    ended_ms: nullable(Milliseconds),
  },
  closed,
);
export type RunView = Static<typeof RunView>;

/** Why a run goes on without a step that failed; it is kept with the step, and shown in the report. */
export const StepSkipRequest = Type.Object(
  { reason: Type.String({ minLength: 1, maxLength: 1000 }) },
  closed,
);

export const StepAnswerRequest = Type.Object({ answer: words('continue', 'abort') }, closed);
