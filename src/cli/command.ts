/** What all commands that talk to a manager share: how they find it, and how they print. */
import type { Command } from 'commander';
import { ManagerApi } from './manager-api.ts';
import { chooseTarget, type TargetOptions } from './manager-target.ts';

export type CommonOptions = TargetOptions & { json?: boolean; reason?: string };

/** Adds the options by which a manager is named, and `--json`. */
export function withManager(command: Command): Command {
  return command
    .option('--site <name>', 'the site of the lab on this machine to talk to')
    .option('--manager <address>', 'unix:/PATH or https://HOST:PORT [$ANTIPODE_MANAGER]')
    .option('--token-file <path>', 'bearer token, for https [$ANTIPODE_TOKEN_FILE]')
    .option('--ca-file <path>', "the site's ca.pem, for https [$ANTIPODE_CA_FILE]")
    .option('--reason <text>', 'why, for the audit log')
    .option('--json', 'print what the API answers, for programs');
}

export async function managerOf(options: CommonOptions): Promise<ManagerApi> {
  return new ManagerApi(await chooseTarget(options), options.reason);
}

/** What the next command of the user needs so that it talks to the same site of a lab. */
export function sameSite({ site }: CommonOptions): string {
  return site === undefined ? '' : ` --site ${site}`;
}

export function print(text: string): void {
  process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
}

/** Words for people that are no result, such as progress. */
export function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

/** Aborts when the user interrupts. */
export function interrupted(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => controller.abort());
  return controller.signal;
}

export function examples(command: Command, lines: readonly string[]): Command {
  return command.addHelpText('after', `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`);
}
