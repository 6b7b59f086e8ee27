/** join-token, pair-token, pair, token, tokens: letting programs and sites in, and people with a token. */
import { Argument, type Command } from 'commander';
import type { Page } from '#/api/common.ts';
import type { Site } from '#/api/inventory.ts';
import type { AdmissionTokenReply, ApiTokenReply, ApiTokenView } from '#/api/tokens.ts';
import { groupNames, roleOption, rolePhrase, type RoleOptions } from './access-commands.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { parseDuration, time } from './duration.ts';
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
  const token = program.command('token').description('bearer tokens, for programs and people without a page');
  const create = withManager(
    token
      .command('create', { isDefault: true })
      .description('a bearer token, shown once; the command may be left out: antipode token NAME')
      .argument('<name>', 'who it is for: what they do is recorded under this name')
      .addOption(roleOption().makeOptionMandatory(false))
      .option('--expires <duration>', 'how long it is good, such as 90d; without it, until it is revoked'),
  ).action(async (name: string, options: CommonOptions & Partial<RoleOptions> & { expires?: string }) => {
    const api = await managerOf(options);
    const { expires, role } = options;
    const reply = await api.post<ApiTokenReply>('/tokens', {
      name,
      ...(role === undefined ? {} : { grants: role }),
      ...(expires === undefined ? {} : { expires_ms: Date.now() + parseDuration(expires) }),
    });
    if (options.json === true) return printJson(reply);
    print(reply.token);
    say(`It is shown this once. Revoke it with: antipode token revoke ${reply.id}`);
  });
  examples(create, [
    'antipode token alice > alice.token',
    'antipode token create ci --role test-operator --expires 90d > ci.token',
  ]);
  const list = withManager(token.command('list').description('tokens, without their secrets'));
  list.action((options: CommonOptions) => showTokens(options));
  examples(list, ['antipode token list']);
  const revoke = withManager(
    token.command('revoke').description('make a token worthless').argument('<id>', 'as the list shows it'),
  ).action((id: string, options: CommonOptions) => revokeToken(id, options));
  examples(revoke, ['antipode token revoke token-1f0c2b3a4d5e']);

  const tokens = withManager(
    program
      .command('tokens')
      .description('the same as token list')
      .option('--revoke <id>', 'the same as token revoke'),
  ).action((options: CommonOptions & { revoke?: string }) =>
    options.revoke === undefined ? showTokens(options) : revokeToken(options.revoke, options),
  );
  examples(tokens, ['antipode tokens', 'antipode tokens --revoke token-1f0c2b3a4d5e']);
}

async function revokeToken(id: string, options: CommonOptions): Promise<void> {
  const api = await managerOf(options);
  await api.delete(`/tokens/${encodeURIComponent(id)}`);
  print(options.json === true ? '{}' : `revoked ${id}`);
}

async function showTokens(options: CommonOptions): Promise<void> {
  const api = await managerOf(options);
  const page = await api.get<Page<ApiTokenView>>('/tokens');
  if (options.json === true) return printJson(page);
  const names = await groupNames(
    api,
    page.items.flatMap(({ grants }) => grants),
  );
  const rows = page.items.map((one) => [
    one.id,
    one.name,
    one.grants.map((grant) => rolePhrase(grant, names)).join(', '),
    time(one.created_ms),
    one.expires_ms === null ? 'when revoked' : time(one.expires_ms),
  ]);
  print(table(['ID', 'NAME', 'ROLES', 'MADE', 'ENDS'], rows, 'no token yet'));
}

/** The token alone goes to standard output, so that it can be sent into a file. */
function showToken(reply: AdmissionTokenReply, options: CommonOptions, advice: readonly string[]): void {
  if (options.json === true) return printJson(reply);
  print(reply.token);
  for (const line of [`It is shown this once, and good until ${time(reply.expires_ms)}.`, ...advice])
    say(line);
}
