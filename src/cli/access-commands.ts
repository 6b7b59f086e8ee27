/** admin: letting the first administrator in. */
import type { Command } from 'commander';
import type { FirstLinkReply } from '#/api/access.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';

export function registerAccessCommands(program: Command): void {
  const admin = program.command('admin').description('the first administrator of a site');
  const firstLink = withManager(
    admin
      .command('first-link')
      .description('the address at which the first administrator is made, once; as root on the manager'),
  ).action(async (options: CommonOptions) => {
    const api = await managerOf(options);
    const reply = await api.post<FirstLinkReply>('/first-links');
    if (options.json === true) return printJson(reply);
    print(reply.url);
    say(`Open it in a browser. It is good for one administrator, until ${time(reply.expires_ms)}.`);
  });
  examples(firstLink, ['antipode admin first-link']);
}
