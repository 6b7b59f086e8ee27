/** admin, user, session, token: who may come in, and what each may do. */
import { InvalidArgumentError, Option, type Command } from 'commander';
import { readFile } from 'node:fs/promises';
import {
  ROLES,
  type FirstLinkReply,
  type Grant,
  type GrantRequests,
  type Role,
  type SessionView,
  type UserReply,
  type UserView,
} from '#/api/access.ts';
import type { Page } from '#/api/common.ts';
import type { GroupView } from '#/api/plans.ts';
import { Failure } from '#/lib/failure.ts';
import { examples, managerOf, print, printJson, say, withManager, type CommonOptions } from './command.ts';
import { time } from './duration.ts';
import type { ManagerApi } from './manager-api.ts';
import { table } from './table.ts';

export type RoleOptions = { role: GrantRequests };
type PasswordOptions = { passwordFile?: string };

export function registerAccessCommands(program: Command): void {
  registerFirst(program);
  const user = program.command('user').description('people who sign in with a password');
  registerAdd(user);
  registerChanges(user);
  registerSessions(program);
}

function registerFirst(program: Command): void {
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

/** `--role ROLE`, or `--role ROLE@GROUP` for the VMs of one protection group; may be given several times. */
export function roleOption(): Option {
  return new Option('--role <role>', `${ROLES.join(', ')}; ROLE@GROUP for one protection group`)
    .argParser(readRole)
    .makeOptionMandatory();
}

export function readRole(text: string, before: GrantRequests | undefined): GrantRequests {
  const [role, group, ...more] = text.split('@');
  if (more.length > 0 || !ROLES.includes(role as Role) || group === '') {
    throw new InvalidArgumentError(`It is one of ${ROLES.join(', ')}, or such a ROLE@GROUP.`);
  }
  const grant = { role: role as Role, ...(group === undefined ? {} : { group }) };
  return [...(before ?? []), grant];
}

function registerAdd(user: Command): void {
  const list = withManager(user.command('list').description('users and their roles')).action(
    async (options: CommonOptions) => {
      const api = await managerOf(options);
      const page = await api.get<Page<UserView>>('/users');
      if (options.json === true) return printJson(page);
      const names = await groupNames(
        api,
        page.items.flatMap(({ grants }) => grants),
      );
      const rows = page.items.map((one) => [
        one.name,
        one.grants.map((grant) => rolePhrase(grant, names)).join(', '),
        one.is_locked ? 'locked' : one.is_break_glass ? 'break-glass' : 'may sign in',
        one.signed_in_ms === null ? 'never' : time(one.signed_in_ms),
      ]);
      print(table(['NAME', 'ROLES', 'STATE', 'SIGNED IN'], rows, 'no user yet: antipode admin first-link'));
    },
  );
  examples(list, ['antipode user list']);
  const add = withManager(
    user
      .command('add')
      .description('a user; without --password-file a password is made up, and shown once')
      .argument('<name>', 'the name to sign in with')
      .addOption(roleOption())
      .option('--password-file <path>', 'its first line is the password')
      .option('--break-glass', 'for when the identity provider is down; each use raises an alarm'),
  ).action(
    async (
      name: string,
      options: CommonOptions & RoleOptions & PasswordOptions & { breakGlass?: boolean },
    ) => {
      const api = await managerOf(options);
      const reply = await api.post<UserReply>('/users', {
        name,
        grants: options.role,
        ...(await passwordIn(options)),
        ...(options.breakGlass === true ? { is_break_glass: true } : {}),
      });
      showPassword(reply, options, `user ${reply.user.name} was added`);
    },
  );
  examples(add, [
    'antipode user add alice --role administrator',
    'antipode user add bob --role test-operator --role recovery-operator@shop',
  ]);
}

function registerChanges(user: Command): void {
  const resetLink = withManager(
    user
      .command('reset-link')
      .description('the address at which a user chooses another password, once, within a day')
      .argument('<name>', 'as antipode user list shows it'),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    const reply = await api.post<FirstLinkReply>(`${pathOf(name)}/reset-link`);
    if (options.json === true) return printJson(reply);
    print(reply.url);
    say(
      `Give it to ${name}. The password of before is good until then; the link until ${time(reply.expires_ms)}.`,
    );
  });
  examples(resetLink, ['antipode user reset-link bob']);
  const role = withManager(
    user
      .command('role')
      .description('put other roles in the place of those of a user')
      .argument('<name>', 'as antipode user list shows it')
      .addOption(roleOption()),
  ).action(async (name: string, options: CommonOptions & RoleOptions) => {
    const api = await managerOf(options);
    const view = await api.post<UserView>(`${pathOf(name)}/grants`, { grants: options.role });
    done(options, view, `user ${view.name} has other roles from now on`);
  });
  examples(role, ['antipode user role bob --role read-only']);
  for (const [word, did] of [
    ['lock', 'is locked, and the sessions have ended'],
    ['unlock', 'may sign in again'],
  ] as const) {
    const about = word === 'lock' ? 'keep a user out, and end the sessions' : 'let a user in again';
    const command = withManager(
      user.command(word).description(about).argument('<name>', 'as antipode user list shows it'),
    ).action(async (name: string, options: CommonOptions) => {
      const api = await managerOf(options);
      const view = await api.post<UserView>(`${pathOf(name)}/${word}`);
      done(options, view, `user ${view.name} ${did}`);
    });
    examples(command, [`antipode user ${word} bob`]);
  }
  const password = withManager(
    user
      .command('password')
      .description('give a user another password, and end the sessions; made up without --password-file')
      .argument('<name>', 'as antipode user list shows it')
      .option('--password-file <path>', 'its first line is the password'),
  ).action(async (name: string, options: CommonOptions & PasswordOptions) => {
    const api = await managerOf(options);
    const reply = await api.post<UserReply>(`${pathOf(name)}/password`, await passwordIn(options));
    showPassword(reply, options, `user ${reply.user.name} has another password`);
  });
  examples(password, ['antipode user password alice']);
  const remove = withManager(
    user
      .command('delete')
      .description('delete a user, and end the sessions')
      .argument('<name>', 'as antipode user list shows it'),
  ).action(async (name: string, options: CommonOptions) => {
    const api = await managerOf(options);
    done(options, await api.delete(pathOf(name)), `user ${name} is deleted`);
  });
  examples(remove, ['antipode user delete bob']);
}

function registerSessions(program: Command): void {
  const session = program.command('session').description('people who have signed in');
  const list = withManager(session.command('list').description('sessions that have not ended')).action(
    async (options: CommonOptions) => {
      const api = await managerOf(options);
      const page = await api.get<Page<SessionView>>('/sessions');
      if (options.json === true) return printJson(page);
      const rows = page.items.map((one) => [
        one.id,
        one.name,
        one.address,
        time(one.begun_ms),
        time(one.seen_ms),
      ]);
      print(table(['ID', 'NAME', 'FROM', 'BEGUN', 'LAST USED'], rows, 'nobody has signed in'));
    },
  );
  examples(list, ['antipode session list']);
  const end = withManager(
    session
      .command('end')
      .description('end a session at once')
      .argument('<id>', 'as antipode session list shows it'),
  ).action(async (id: string, options: CommonOptions) => {
    const api = await managerOf(options);
    done(options, await api.delete(`/sessions/${encodeURIComponent(id)}`), `session ${id} has ended`);
  });
  examples(end, ['antipode session end session-1f0c2b3a4d5e']);
}

/** The names of the groups that roles are on; a group that is gone has none, and nobody may do anything with it. */
export async function groupNames(api: ManagerApi, grants: readonly Grant[]): Promise<Map<string, string>> {
  if (grants.every((grant) => grant.group_id === null)) return new Map();
  const groups = await api.get<Page<GroupView>>('/groups');
  return new Map(groups.items.map(({ id, document }) => [id, document.name]));
}

export function rolePhrase({ role, group_id: id }: Grant, names: ReadonlyMap<string, string>): string {
  return id === null ? role : `${role}@${names.get(id) ?? id}`;
}

function pathOf(name: string): string {
  return `/users/${encodeURIComponent(name)}`;
}

function done(options: CommonOptions, reply: unknown, words: string): void {
  if (options.json === true) printJson(reply ?? {});
  else print(words);
}

/** The password alone goes to standard output, so that it can be sent into a file. */
function showPassword(reply: UserReply, options: CommonOptions, words: string): void {
  if (options.json === true) return printJson(reply);
  say(words);
  if (reply.password === null) return;
  print(reply.password);
  say('The password is shown this once.');
}

async function passwordIn({ passwordFile: path }: PasswordOptions): Promise<{ password?: string }> {
  if (path === undefined) return {};
  try {
    return { password: (await readFile(path, 'utf8')).split('\n')[0]! };
  } catch (error) {
    throw new Failure('usage_invalid', `read ${path}`, { cause: error });
  }
}
