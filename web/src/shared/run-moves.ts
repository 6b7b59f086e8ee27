/**
 * What may be done with a run of a plan in which state: the one table that the page's buttons and its words come from.
 * The manager decides; test/run-moves.test.ts asks it in every state and compares.
 *
 * Nothing is imported here, so that a test outside the page can read the table too.
 */

export type RunKind = 'test' | 'migration' | 'disaster' | 'failback';
export type RunState = 'running' | 'ready' | 'cleaning' | 'done' | 'failed' | 'cancelled' | 'cleaned';
export type RunMove = 'cancel' | 'cleanup' | 'resume' | 'reprotect';

export const RUN_MOVES: readonly RunMove[] = ['cancel', 'cleanup', 'resume', 'reprotect'];

/** The states that a run of each kind can be in, and what may be done there. */
export const RUN_TABLE: Record<RunKind, Partial<Record<RunState, readonly RunMove[]>>> = {
  test: {
    running: ['cancel', 'cleanup'],
    ready: ['cancel', 'cleanup'],
    cleaning: [],
    failed: ['cancel', 'cleanup', 'resume'],
    cleaned: [],
  },
  migration: {
    running: ['cancel'],
    cleaning: [],
    done: ['reprotect'],
    failed: ['cancel', 'resume', 'reprotect'],
    cleaned: [],
  },
  disaster: {
    running: ['cancel'],
    done: ['reprotect'],
    failed: ['cancel', 'resume', 'reprotect'],
    cancelled: ['resume', 'reprotect'],
  },
  failback: {
    running: ['cancel'],
    cleaning: [],
    done: ['reprotect'],
    failed: ['cancel', 'resume', 'reprotect'],
    cleaned: [],
  },
};

const OF_STATE: Record<RunState, string> = {
  running: 'It is under way.',
  ready: 'Its VMs are up, and wait for the cleanup.',
  cleaning: 'What it did is being undone.',
  done: 'It is done: its VMs run here for production.',
  failed: 'It has failed.',
  cancelled: 'It has been stopped.',
  cleaned: 'Everything that it did is undone.',
};

type Step = {
  readonly kind: string;
  readonly phase: string;
  readonly state: string;
  readonly attempts: number;
  readonly on_failure: string;
};
export type KnownRun = {
  readonly kind: RunKind;
  readonly state: RunState;
  readonly steps?: readonly Step[] | undefined;
};

/** Why a move cannot be made, or undefined when it can. */
export function whyNotMove(move: RunMove, { kind, state, steps = [] }: KnownRun): string | undefined {
  if (move === 'cleanup' && kind !== 'test')
    return 'What it brings up is production: only a test is cleaned up.';
  if (move === 'reprotect' && kind === 'test') return 'The VMs of a test are thrown away.';
  if (!(RUN_TABLE[kind][state] ?? []).includes(move)) return OF_STATE[state];
  const isPlanned = kind === 'migration' || kind === 'failback';
  if (move === 'cancel' && isPlanned && steps.some(hasBroughtUp))
    return 'It has begun to bring VMs up here: it only goes forward.';
  if (move === 'resume' && steps.some((step) => step.phase === 'undo' && step.attempts > 0))
    return 'What it did is being undone. Start another run after that.';
  return undefined;
}

function hasBroughtUp(step: Step): boolean {
  return step.kind === 'recover' && step.attempts > 0;
}

/** Steps that a person may decide to go on without; the others keep VMs safe. */
const SKIPPABLE = [
  'command',
  'http',
  'message',
  'guest',
  'probe',
  'customize',
  'restore',
  'suspend',
  'resume',
];

export function whyNotSkip({ state }: KnownRun, step: Step): string | undefined {
  if (step.state !== 'failed') return 'Only a step that failed is skipped.';
  if (state !== 'failed' && state !== 'cancelled') return 'The run has not come to its end yet.';
  if (step.on_failure === 'continue') return 'Nothing waits for it.';
  if (step.phase === 'forward' && SKIPPABLE.includes(step.kind)) return undefined;
  return 'What comes after relies on it. Put right what it failed by, then resume.';
}

/** In these a run has VMs, and no other run may have them. */
export function whyNotStart(plan: string, runs: readonly { plan: string; kind: RunKind; state: RunState }[]) {
  const open = runs.find((run) => run.plan === plan && isOpen(run));
  return open === undefined
    ? undefined
    : `A ${WORDS[open.kind]} of it is ${open.state}: it has to end first.`;
}

export function isOpen({ state }: { state: RunState }): boolean {
  return state === 'running' || state === 'ready' || state === 'cleaning' || state === 'failed';
}

const WORDS: Record<RunKind, string> = {
  test: 'test',
  migration: 'planned migration',
  disaster: 'disaster recovery',
  failback: 'failback',
};
