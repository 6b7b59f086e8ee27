/** plan import, plan export: a plan with its groups and mappings as a file, for people who keep them in git. */
import { readFile, stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { PlanFile, type ImportReply, type PlanProblem } from '#/api/plan-files.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { counted, problemText } from './plan-problems.ts';
import { FILE_BYTES_MAX, parsePlanText, planText, type PlanText } from './plan-yaml.ts';
import { misshapes } from './plan-shape.ts';
import { printable } from './table.ts';

export function registerPlanFileCommands(plan: Command): void {
  const take = withManager(
    plan
      .command('import')
      .description(
        'check the file of a plan with its groups and mappings, and show what it would change; with --apply, change ' +
          'it, all or nothing. What the file does not name stays as it is',
      )
      .argument('<file>', 'YAML as antipode plan export writes it; - for standard input')
      .option('--apply', 'change it'),
  ).action(async (path: string, options: CommonOptions & { apply?: boolean }) => {
    const name = path === '-' ? 'standard input' : path;
    const text = parsePlanText(await readInput(path), name);
    const file = shaped(text, name);
    const api = await managerOf(options);
    const looked = await api.post<ImportReply>('/plan-files', { file, apply: false });
    const errors = looked.problems.filter(({ severity }) => severity === 'error');
    const isTaken = options.apply === true && errors.length === 0;
    const reply = isTaken ? await api.post<ImportReply>('/plan-files', { file, apply: true }) : looked;
    const locate = (problem: PlanProblem): string => `${name}:${text.lineOf(problem.at)}: `;
    finishImport(reply, { name, isJson: options.json === true, locate });
  });
  examples(take, ['antipode plan import all.yaml', 'antipode plan import all.yaml --apply']);

  const give = withManager(
    plan
      .command('export')
      .description('write a plan with its groups and mappings, as antipode plan import reads it')
      .argument('<plan>', "the plan's name or id"),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const file = await api.get<PlanFile>(`/plans/${encodeURIComponent(name)}/file`);
    if (options.json === true) printJson(file);
    else print(planText(file));
  });
  examples(give, ['antipode plan export all > all.yaml']);
}

/** Shows what an import found and does; throws when that keeps it from being applied. */
export function finishImport(
  reply: ImportReply,
  shown: { name: string; isJson: boolean; locate?: (problem: PlanProblem) => string },
): void {
  const { name, isJson, locate } = shown;
  if (isJson) printJson(reply);
  else {
    for (const problem of reply.problems) say(printable(locate?.(problem) ?? '') + problemText(problem));
    showChanges(reply);
  }
  const errors = reply.problems.filter(({ severity }) => severity === 'error');
  if (errors.length === 0) return;
  throw new Failure('conflict', `${name} has ${counted(errors.length, 'error')}`, {
    hint: 'Nothing was changed.',
  });
}

/** Of a file, or of standard input for `-`. Throws usage_invalid. */
export async function readInput(path: string): Promise<string> {
  if (path === '-') return readStandardInput();
  try {
    const { size } = await stat(path);
    if (size <= FILE_BYTES_MAX) return await readFile(path, 'utf8');
  } catch (error) {
    throw new Failure('usage_invalid', `read ${path}`, { cause: error });
  }
  throw tooLong(path);
}

async function readStandardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > FILE_BYTES_MAX) throw tooLong('standard input');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function tooLong(name: string): Failure {
  return new Failure('usage_invalid', `${name} is longer than ${FILE_BYTES_MAX} bytes`, {
    hint: 'A plan of that length is hardly one: split it.',
  });
}

/** Throws usage_invalid with every line that has not the shape of a plan. */
function shaped(text: PlanText, name: string): PlanFile {
  const wrong = misshapes(PlanFile, text.value);
  if (wrong.length === 0) return text.value as PlanFile;
  const lines = wrong.map(
    ({ at, message }) => `${name}:${text.lineOf(at)}: ${at.slice(1) || 'the file'} ${message}`,
  );
  for (const line of lines.slice(1)) say(printable(line));
  throw new Failure('usage_invalid', lines[0]!, {
    hint: 'docs/recovery-plans.md says what a plan may hold; antipode plan export shows one.',
  });
}

function showChanges({ changes, is_applied: isApplied }: ImportReply): void {
  const real = changes.filter(({ change }) => change !== 'none');
  if (real.length === 0) return print('everything is as the file says already');
  for (const { kind, name, change, details } of real) {
    const word =
      change === 'added' ? (isApplied ? 'added' : 'would be added') : isApplied ? 'changed' : 'would change';
    print(printable(`${kind} ${name}: ${word}`));
    for (const detail of details) print(printable(`  ${detail}`));
  }
  if (!isApplied) print('nothing was changed: apply it with --apply');
}
