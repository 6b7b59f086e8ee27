/** doctor: looks at this machine and says what to mend, whether programs run here or not. */
import type { Command } from 'commander';
import { checksOf } from '#/operate/checks.ts';
import { CONFIG_DIRECTORY, readConfigured } from '#/operate/configured.ts';
import { examine, exitCodeOf, type Examination } from '#/operate/doctor.ts';
import type { Finding } from '#/operate/finding.ts';
import { examples, print, printJson, say } from './command.ts';
import { printable } from './table.ts';

type Options = { configDirectory: string; json?: boolean; all?: boolean };

const MARKS = { good: 'good   ', warning: 'WARNING', bad: 'BAD    ' } as const;

export function registerDoctorCommand(program: Command): void {
  const doctor = program
    .command('doctor')
    .description(
      'look at this machine and say what to mend: as what its configuration makes it (agent, replication server, ' +
        'manager), or, without one, as a host that is to become one. Exit code 0: all is good, 1: warnings, 2: bad',
    )
    .option(
      '--config-directory <path>',
      'where agent.json, replication-server.json, manager.json are',
      CONFIG_DIRECTORY,
    )
    .option('--all', 'say also why what is good matters')
    .option('--json', 'print the findings, for programs')
    .action(async (options: Options) => {
      const examination = await diagnose(options.configDirectory);
      if (options.json === true) printJson(examination);
      else show(examination, options);
      // A check that was given up may still hold a thread in the kernel, which would keep the process.
      process.exit(exitCodeOf(examination.state));
    });
  examples(doctor, [
    'antipode doctor',
    'antipode doctor --json',
    'antipode doctor --config-directory /etc/antipode-test',
  ]);
}

export async function diagnose(directory: string): Promise<Examination> {
  const configured = await readConfigured(directory);
  return examine(checksOf(configured), (names) => say(`still looking at: ${names.join(', ')}`));
}

function show({ findings, state }: Examination, options: Options): void {
  for (const finding of findings) print(paragraph(finding, options.all === true));
  const count = (of: Finding['state']): number => findings.filter((finding) => finding.state === of).length;
  print(
    state === 'good'
      ? `\n${findings.length} findings, all good`
      : `\n${findings.length} findings: ${count('bad')} bad, ${count('warning')} warnings, ${count('good')} good`,
  );
}

function paragraph({ check, fix, saw, state, why }: Finding, isWhole: boolean): string {
  const head = `${MARKS[state]}  ${check}: ${saw}`;
  const lines = state === 'good' && !isWhole ? [head] : [head, `         ${why}`];
  if (fix !== null) lines.push(`         fix: ${fix}`);
  return lines.map(printable).join('\n');
}
