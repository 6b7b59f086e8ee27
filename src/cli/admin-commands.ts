/** join-token, pair-token, pair, token, tokens: letting programs, sites and administrators in. */
import { Argument, type Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { Site } from '#/api/inventory.ts';
import type { AdmissionTokenReply, ApiTokenReply } from '#/api/tokens.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';
import { table } from './table.ts';

export function registerAdminCommands(program: Command): void {
  registerAdmission(program);
  registerTokens(program);
}

function registerAdmission(program: Command): void {
  const join = withManager(
    program
      .command('join-token')
      .description('a token that lets one program join the site, once, within the hour')
      .addArgument(
        new Argument('<kind>', 'which program it is for').choices(['agent', 'replication-server']),
      ),
  ).action(async (kind: string, options: CommonOptions) => {
    const api = await managerOf(options);
    showToken(await api.post<AdmissionTokenReply>('/join-tokens', { kind }), options, [
      'Put it in the file that join_token_file of the program names, then start the program.',
    ]);
  });
  examples(join, ['antipode join-token agent > /etc/antipode/join-token']);

  const pairToken = withManager(
    program.command('pair-token').description('a token for another site to pair with this one, once'),
  ).action(async (options: CommonOptions) => {
    const api = await managerOf(options);
    showToken(await api.post<AdmissionTokenReply>('/pairing-tokens'), options, [
      'At the other site, within the hour: antipode pair TOKEN',
    ]);
  });
  examples(pairToken, ['antipode pair-token']);

  const pair = withManager(
    program
      .command('pair')
      .description('pair with the site that made the token: VMs can be protected in both directions')
      .argument('<token>', 'from antipode pair-token at the other site'),
  ).action(async (token: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const site = await api.post<Site>('/pairings', { token });
    if (options.json === true) printJson(site);
    else print(`paired with ${site.name} at ${site.address}`);
  });
  examples(pair, ['antipode pair ap1.pairing....']);
}

function registerTokens(program: Command): void {
  const token = withManager(
    program
      .command('token')
      .description('a bearer token for an administrator; made by root on the manager itself')
      .argument('<name>', 'who it is for: what they do is recorded under this name'),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const reply = await api.post<ApiTokenReply>('/tokens', { name });
    if (options.json === true) return printJson(reply);
    print(reply.token);
    say(`It is shown this once. Revoke it with: antipode tokens --revoke ${reply.id}`);
  });
  examples(token, ['antipode token alice > alice.token']);

  const tokens = withManager(
    program
      .command('tokens')
      .description('bearer tokens of administrators')
      .option('--revoke <id>', 'make one worthless'),
  ).action(async (options: CommonOptions & { revoke?: string }) => {
    const api = await managerOf(options);
    if (options.revoke !== undefined) {
      await api.delete(`/tokens/${encodeURIComponent(options.revoke)}`);
      return print(options.json === true ? '{}' : `revoked ${options.revoke}`);
    }
    const page = await api.get<Page<{ id: string; name: string; created_ms: number }>>('/tokens');
    if (options.json === true) return printJson(page);
    const rows = page.items.map((one) => [one.id, one.name, time(one.created_ms)]);
    print(table(['ID', 'NAME', 'MADE'], rows, 'no token yet'));
  });
  examples(tokens, ['antipode tokens', 'antipode tokens --revoke token-1f0c2b3a4d5e']);
}

/** The token alone goes to standard output, so that it can be sent into a file. */
function showToken(reply: AdmissionTokenReply, options: CommonOptions, advice: readonly string[]): void {
  if (options.json === true) return printJson(reply);
  print(reply.token);
  for (const line of [`It is shown this once, and good until ${time(reply.expires_ms)}.`, ...advice])
    say(line);
}
