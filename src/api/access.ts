/** People: who they are, what they may do, and their sessions. */
import { Type, type Static } from 'typebox';
import { closed, Id, Milliseconds, Name, nullable, Problem, Text } from './common.ts';

const words = <const T extends readonly string[]>(...all: T) =>
  Type.Union(all.map((word) => Type.Literal(word))) as unknown as ReturnType<typeof Type.Unsafe<T[number]>>;

/** What people are, as users of VMware's products know them. */
export const ROLES = [
  'administrator',
  'plan-administrator',
  'recovery-operator',
  'test-operator',
  'protection-administrator',
  'read-only',
] as const;
export const Role = words(...ROLES);
export type Role = Static<typeof Role>;

/** What a role consists of. */
export const PERMISSIONS = [
  'site.view',
  'site.manage',
  'access.manage',
  'protection.manage',
  'plan.manage',
  'recovery.test',
  'recovery.run',
  'console.test',
  'console.run',
] as const;
export const Permission = words(...PERMISSIONS);
export type Permission = Static<typeof Permission>;

/** A role on everything, or on the VMs of one protection group. */
export const Grant = Type.Object({ role: Role, group_id: nullable(Id) }, closed);
export type Grant = Static<typeof Grant>;

/** As it is asked for: the group by its name or id; none is everything. */
export const GrantRequests = Type.Array(
  Type.Object({ role: Role, group: Type.Optional(nullable(Name)) }, closed),
  { minItems: 1, maxItems: 100 },
);
export type GrantRequests = Static<typeof GrantRequests>;

/** Of a user: without what would be read as an address or an option. */
export const UserName = Type.String({
  minLength: 1,
  maxLength: 64,
  pattern: '^[A-Za-z0-9_][A-Za-z0-9._@+-]*$',
});
/** Checked further by the manager; no composition rules. */
export const Password = Type.String({ minLength: 1, maxLength: 1024 });

export const LoginRequest = Type.Object(
  { name: Type.String({ maxLength: 255 }), password: Password },
  closed,
);

export const FirstAdministratorRequest = Type.Object(
  { token: Type.String({ maxLength: 255 }), name: UserName, password: Password },
  closed,
);

/** The address with a token at which the first administrator is made. */
export const FirstLinkReply = Type.Object(
  { url: Type.String(), token: Type.String(), expires_ms: Milliseconds },
  closed,
);
export type FirstLinkReply = Static<typeof FirstLinkReply>;

/** A link at which a user chooses a password, once. */
export const ResetLinkReply = FirstLinkReply;
export const ResetRequest = Type.Object(
  { token: Type.String({ maxLength: 255 }), password: Password },
  closed,
);

/** Ends the session here; where the provider of identities can end its own, the browser goes there next. */
export const LogoutReply = Type.Object({ provider_url: nullable(Text) }, closed);
export type LogoutReply = Static<typeof LogoutReply>;

/** The provider of identities, as the manager's configuration has it; without its secret. */
export const IdentityProvider = Type.Object(
  {
    issuer: Text,
    client_id: Text,
    label: Text,
    scope: Text,
    name_claim: Text,
    groups_claim: Text,
    /** Where the provider has to let people go back to. */
    redirect_uri: Text,
    roles: Type.Array(
      Type.Object({ group: Text, roles: Type.Array(Type.String({ maxLength: 512 })) }, closed),
    ),
    /** Asked just now. */
    is_reachable: Type.Boolean(),
    failure: nullable(Problem),
    can_end_sessions: Type.Boolean(),
  },
  closed,
);
export type IdentityProvider = Static<typeof IdentityProvider>;
export const IdentityProviderReply = Type.Object({ provider: nullable(IdentityProvider) }, closed);

/** What the page has to know before anybody has signed in. */
export const SignIn = Type.Object(
  {
    site_id: Id,
    site_name: Name,
    /** Nobody can sign in yet: the first administrator is made with the link of `antipode admin first-link`. */
    needs_first_administrator: Type.Boolean(),
    /** Besides a name and a password: a button with this label that leads to this address. */
    single_sign_on: nullable(Type.Object({ label: Text, path: Text }, closed)),
  },
  closed,
);
export type SignIn = Static<typeof SignIn>;

export const OwnSession = Type.Object(
  {
    id: Id,
    begun_ms: Milliseconds,
    /** It ends then at the latest, and after `idle_ms` without a request. */
    ends_ms: Milliseconds,
    idle_ms: Milliseconds,
  },
  closed,
);

/** Who is calling, and what that caller may do. */
export const Me = Type.Object(
  {
    name: Text,
    /** root on the manager's Unix socket, a bearer token, or a person who has signed in. */
    by: words('socket', 'token', 'session'),
    grants: Type.Array(Grant),
    /** On everything. */
    permissions: Type.Array(Permission),
    /** More of them, on the VMs of single protection groups. */
    on_groups: Type.Array(Type.Object({ group_id: Id, permissions: Type.Array(Permission) }, closed)),
    session: nullable(OwnSession),
  },
  closed,
);
export type Me = Static<typeof Me>;

export const SessionView = Type.Object(
  {
    id: Id,
    name: Text,
    begun_ms: Milliseconds,
    seen_ms: Milliseconds,
    ends_ms: Milliseconds,
    address: Text,
    /** The browser, as it calls itself. */
    agent: Text,
    /** The one that asks. */
    is_own: Type.Boolean(),
  },
  closed,
);
export type SessionView = Static<typeof SessionView>;

export const UserRequest = Type.Object(
  {
    name: UserName,
    /** Absent: one is made up, and shown once. */
    password: Type.Optional(Password),
    grants: GrantRequests,
    /** For when the identity provider is down; each use is told of loudly. */
    is_break_glass: Type.Optional(Type.Boolean()),
  },
  closed,
);
export const UserView = Type.Object(
  {
    id: Id,
    name: UserName,
    grants: Type.Array(Grant),
    is_locked: Type.Boolean(),
    is_break_glass: Type.Boolean(),
    created_ms: Milliseconds,
    password_ms: Milliseconds,
    signed_in_ms: nullable(Milliseconds),
  },
  closed,
);
export type UserView = Static<typeof UserView>;

/** `password` is that which was made up; null when one was given. */
export const UserReply = Type.Object({ user: UserView, password: nullable(Type.String()) }, closed);
export type UserReply = Static<typeof UserReply>;

export const GrantsRequest = Type.Object({ grants: GrantRequests }, closed);
export const PasswordReset = Type.Object({ password: Type.Optional(Password) }, closed);
export const PasswordChange = Type.Object({ old: Password, password: Password }, closed);
