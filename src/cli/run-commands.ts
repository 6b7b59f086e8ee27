/** plan test, migrate, run, failback, cleanup, cancel, resume, answer, skip; and runs. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { RunCheck, RunKind, RunRequest, RunView } from '#/api/runs.ts';
import { Failure } from '#/lib/failure.ts';
import {
  examples,
  interrupted,
  managerOf,
  print,
  printJson,
  sameSite,
  say,
  withManager,
  type CommonOptions,
} from './command.ts';
import { duration, time } from './duration.ts';
import { followRun, throwIfRunFailed } from './follow-run.ts';
import type { ManagerApi } from './manager-api.ts';
import { registerPlanReprotectCommand, showProtection } from './plan-reprotect-command.ts';
import { table } from './table.ts';

type RunOptions = CommonOptions & {
  at?: string;
  point?: string[];
  from?: string;
  check?: boolean;
  yes?: boolean;
  wait: boolean;
};

const WORDS: Record<RunKind, { command: string; about: string }> = {
  test: {
    command: 'test',
    about: 'bring the VMs of a plan up beside the originals, isolated; ends with: antipode plan cleanup',
  },
  migration: {
    command: 'migrate',
    about: 'planned migration: shut down there, last cycle, proof that nothing is missing, start here',
  },
  disaster: {
    command: 'run',
    about: 'disaster recovery: bring the VMs up here, whether the protected site answers or not',
  },
  failback: {
    command: 'failback',
    about:
      'bring the VMs home that a plan has moved away: as migrate, in the order of the plan as it was run there, onto ' +
      'the networks that they were on here, with the addresses of before, and protected again as they were',
  },
};

/** Adds what runs plans to the command `plan`. */
export function registerPlanRunCommands(plan: Command): void {
  for (const kind of ['test', 'migration', 'disaster', 'failback'] as const) registerRun(plan, kind);
  registerChange(plan, 'cleanup', 'remove everything that a test of a plan made');
  registerChange(
    plan,
    'cancel',
    'stop a run: a test is cleaned up, a migration taken back, a disaster starts no more',
  );
  registerChange(plan, 'resume', 'go on with a run that failed or was stopped; what failed is tried again');
  registerAnswer(plan);
  registerSkip(plan);
  registerPlanReprotectCommand(plan);
}

function registerRun(plan: Command, kind: RunKind): void {
  const { command: name, about } = WORDS[kind];
  const command = withManager(
    plan
      .command(name)
      .description(about)
      .argument('<plan>', "the plan's name")
      .option('--check', 'only say what would speak against it, and how old each VM would come up')
      .option('--no-wait', 'do not wait for its end'),
  );
  if (kind === 'test' || kind === 'disaster') {
    command
      .option(
        '--at <time>',
        'not from the newest points, but from those of this moment, such as 2026-11-22T14:30:00Z',
      )
      .option('--point <vm=sequence...>', 'of this VM this very point; see: antipode points VM');
  }
  if (kind === 'failback')
    command.option('--from <site>', 'the site where they are, when several have VMs by a plan of that name');
  if (kind !== 'test') command.option('--yes', 'do not ask');
  command.action(async (planName: string, options: RunOptions) => {
    const api = await managerOf(options);
    const request = requestOf(planName, kind, options);
    const check = await api.post<RunCheck>('/runs/check', request);
    const isQuiet = options.json === true;
    if (options.check === true) return showCheck(check, isQuiet);
    if (!isQuiet) say(checkText(check));
    if (check.is_possible && kind !== 'test' && options.yes !== true)
      await confirm(planName, WORDS[kind].command);
    const first = await api.post<RunView>('/runs', request);
    if (!isQuiet) say(`run ${first.id}:`);
    await end(api, first, options);
  });
  examples(command, [
    `antipode plan ${name} all --check`,
    `antipode plan ${name} all`,
    ...(kind === 'test'
      ? ['antipode plan test all --at 2026-11-22T14:30:00Z', 'antipode plan cleanup all']
      : []),
    ...(kind === 'failback' ? ['antipode plan failback all --from east --yes'] : []),
    ...(kind === 'disaster' ? ['antipode plan run all --point db=1207 --yes'] : []),
  ]);
}

function requestOf(plan: string, kind: RunKind, { at, point, from }: RunOptions): RunRequest {
  const atMs = at === undefined ? undefined : Date.parse(at);
  if (atMs !== undefined && !Number.isInteger(atMs)) {
    throw new Failure('usage_invalid', `--at "${at}" is no time`, {
      hint: 'Write it as 2026-11-22T14:30:00Z.',
    });
  }
  const points = (point ?? []).map((text): [string, number] => {
    const match = /^(.+)=([1-9]\d{0,14})$/.exec(text);
    if (match !== null) return [match[1]!, Number(match[2])];
    throw new Failure('usage_invalid', `--point "${text}" names no point`, {
      hint: 'Write --point VM=SEQUENCE.',
    });
  });
  return {
    plan,
    kind,
    ...(from === undefined ? {} : { site: from }),
    ...(atMs === undefined ? {} : { at_ms: atMs }),
    ...(points.length === 0 ? {} : { points: Object.fromEntries(points) }),
  };
}

function showCheck(check: RunCheck, isJson: boolean): void {
  if (isJson) printJson(check);
  else print(checkText(check));
  if (!check.is_possible) process.exitCode = 4;
}

function checkText(check: RunCheck): string {
  const rows = check.vms.map((vm) => [
    vm.vm_name,
    String(vm.priority),
    vm.point === null ? 'none' : String(vm.point),
    vm.age_ms === null ? 'unknown' : duration(vm.age_ms),
    duration(vm.rpo_ms),
    vm.source,
  ]);
  const vms = table(['VM', 'PRIORITY', 'POINT', 'AGE', 'RPO', 'PROTECTED SITE'], rows, 'the plan has no VM');
  const warnings = check.warnings.map((text) => `warning: ${text}\n`);
  const refusals = check.refusals.map(
    ({ message, hint }) => `refused: ${message}${hint === null ? '' : `\n  ${hint}`}\n`,
  );
  return [vms, ...warnings, ...refusals].join('').trimEnd();
}

/** Who runs a plan for real types its name: nobody does that by mistake. */
async function confirm(plan: string, command: string): Promise<void> {
  if (!process.stdin.isTTY) {
    throw new Failure(
      'usage_invalid',
      `antipode plan ${command} asks before it begins, and nobody can answer here`,
      {
        hint: 'Add --yes.',
      },
    );
  }
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const typed = await asking.question(`Type the name of the plan to ${command} it: `);
    if (typed.trim() === plan) return;
  } finally {
    asking.close();
  }
  throw new Failure('cancelled', `that was not "${plan}": nothing was begun`);
}

async function end(api: ManagerApi, first: RunView, options: RunOptions): Promise<void> {
  const isQuiet = options.json === true;
  const follow = { isQuiet, signal: interrupted(), site: sameSite(options) };
  const view = options.wait ? await followRun(api, first, follow) : first;
  if (isQuiet) printJson(view);
  if (!options.wait)
    return isQuiet ? undefined : print(`run ${view.id} is ${view.state}: antipode runs ${view.id}`);
  throwIfRunFailed(view);
  if (isQuiet) return;
  print(summary(view, sameSite(options)));
  if (view.kind === 'failback' && view.state === 'done') await showProtection(api, view.id);
}

function summary(view: RunView, site: string): string {
  const took = duration((view.up_ms ?? view.updated_ms) - view.created_ms);
  const head = `run ${view.id} of plan ${view.plan} is ${view.state}`;
  const off = view.vms.filter(({ state }) => state === 'off').length;
  const count = view.vms.length - off;
  const leftOff = off === 0 ? '' : `, ${off} left off`;
  if (view.state === 'ready') {
    const next = `When you have seen enough: antipode plan cleanup ${view.id}${site}`;
    return `${head}: ${count === 1 ? '1 VM is' : `${count} VMs are`} up, isolated${leftOff}, after ${took}.\n${next}`;
  }
  if (view.state === 'done')
    return `${head}: ${count === 1 ? '1 VM runs' : `${count} VMs run`} here${leftOff}, after ${took}.`;
  if (view.state === 'cancelled')
    return `${head}: what runs stays. Go on with: antipode plan resume ${view.id}${site}`;
  return `${head}: everything that it did is undone.`;
}

function registerChange(plan: Command, name: 'cleanup' | 'cancel' | 'resume', about: string): void {
  const command = withManager(
    plan
      .command(name)
      .description(about)
      .argument('<run>', "the run's id, or its plan's name, which means its newest run")
      .option('--no-wait', 'do not wait for its end'),
  ).action(async (which: string, options: RunOptions) => {
    const api = await managerOf(options);
    await end(api, await api.post<RunView>(`/runs/${encodeURIComponent(which)}/${name}`), options);
  });
  examples(command, [`antipode plan ${name} all`, `antipode plan ${name} run-1f0c2b3a4d5e --no-wait`]);
}

function registerAnswer(plan: Command): void {
  const command = withManager(
    plan
      .command('answer')
      .description('answer a message of a run that waits for a person: it goes on')
      .argument('<run>', "the run's id, or its plan's name")
      .argument('[step]', 'the key of the message; may be left out when only one waits')
      .option('--abort', 'it is to stop there instead'),
  ).action(async (which: string, step: string | undefined, options: CommonOptions & { abort?: boolean }) => {
    const api = await managerOf(options);
    const run = await api.get<RunView>(`/runs/${encodeURIComponent(which)}`);
    const waiting = (run.steps ?? []).filter(({ kind, state }) => kind === 'message' && state === 'running');
    const key = step ?? (waiting.length === 1 ? waiting[0]!.key : undefined);
    if (key === undefined) {
      const names = waiting.map((each) => each.key).join(', ');
      throw new Failure('conflict', `run ${run.id} has ${waiting.length} messages that wait`, {
        hint:
          waiting.length === 0 ? `See how it stands with: antipode runs ${run.id}` : `Name one of: ${names}`,
      });
    }
    const body = { answer: options.abort === true ? 'abort' : 'continue' };
    const view = await api.post<RunView>(`/runs/${run.id}/steps/${key}/answer`, body);
    if (options.json === true) return printJson(view);
    print(`step ${key} of run ${run.id} is answered: ${body.answer}`);
  });
  examples(command, [
    'antipode plan answer all',
    'antipode plan answer run-1f0c2b3a4d5e plan-after-1 --abort',
  ]);
}

function registerSkip(plan: Command): void {
  const command = withManager(
    plan
      .command('skip')
      .description(
        'go on without a step that failed: what follows it is carried out when the run is resumed. Not without what ' +
          'keeps VMs safe: shut-downs, last cycles, recoveries',
      )
      .argument('<run>', "the run's id, or its plan's name")
      .argument('<step>', 'the key of the step; see: antipode runs RUN'),
  ).action(async (which: string, step: string, options: CommonOptions) => {
    // An option of every command, for the audit log; here it is kept with the step as well.
    if (options.reason === undefined) {
      throw new Failure(
        'usage_invalid',
        `step ${step} is skipped for a reason, which is shown in the report`,
        {
          hint: "Say why: --reason 'the mail gateway is down today'",
        },
      );
    }
    const api = await managerOf(options);
    const path = `/runs/${encodeURIComponent(which)}/steps/${encodeURIComponent(step)}/skip`;
    const view = await api.post<RunView>(path, { reason: options.reason });
    if (options.json === true) return printJson(view);
    print(
      `step ${step} of run ${view.id} is skipped. Go on with: antipode plan resume ${view.id}${sameSite(options)}`,
    );
  });
  examples(command, ["antipode plan skip all p1-after-1 --reason 'the mail gateway is down today'"]);
}

export function registerRunsCommand(program: Command): void {
  const command = withManager(
    program
      .command('runs')
      .description('runs of recovery plans, newest first; or the steps of one')
      .argument('[run]', "this one: its id, or its plan's name"),
  ).action(async (which: string | undefined, options: CommonOptions) => {
    const api = await managerOf(options);
    if (which !== undefined) {
      const view = await api.get<RunView>(`/runs/${encodeURIComponent(which)}`);
      return options.json === true ? printJson(view) : print(steps(view));
    }
    const { items } = await api.get<{ items: RunView[] }>('/runs');
    if (options.json === true) return printJson(items);
    const rows = items.map((view) => [
      view.id,
      view.plan,
      view.kind,
      time(view.created_ms),
      `${view.done_count} of ${view.step_count}`,
      view.state,
      view.failure?.message ?? '',
    ]);
    print(table(['ID', 'PLAN', 'KIND', 'BEGAN', 'STEPS', 'STATE', ''], rows, 'no run yet'));
  });
  examples(command, ['antipode runs', 'antipode runs all', 'antipode runs run-1f0c2b3a4d5e --json']);
}

function steps(view: RunView): string {
  const rows = (view.steps ?? []).map((step) => {
    const endMs = step.ended_ms ?? Date.now();
    const took = step.started_ms === null ? '' : duration(Math.max(0, endMs - step.started_ms));
    // Of a step that was skipped after it failed, who said so and why.
    const failure = step.failure === null ? [] : [step.failure.message];
    const said = step.state === 'skipped' && step.note !== null ? [step.note, ...failure] : failure;
    return [step.key, step.name, step.state, took, said.length > 0 ? said.join('; ') : (step.note ?? '')];
  });
  const why = view.failure === null ? '' : `\n${view.failure.message}`;
  const head = `${view.kind} of plan ${view.plan}, begun ${time(view.created_ms)} by ${view.started_by}`;
  return `${head}: ${view.state}${why}\n\n${table(['STEP', 'WHAT', 'STATE', 'TOOK', ''], rows, 'no step yet')}`;
}
