/**
 * What the configuration says of the provider of identities (OpenID Connect), and which groups there have which roles
 * here.
 */
import { ROLES, type GrantRequests, type Role } from '#/api/access.ts';
import { absolutePath, optional, section, text, type ConfigOf, type Setting } from '#/lib/config.ts';
import { Failure } from '#/lib/failure.ts';

const GROUPS_MAX = 1000;

const secureUrl: Setting<string> = {
  read: (value, where) => {
    const given = text.read(value, where);
    const url = URL.parse(given);
    if (url?.protocol === 'https:' && url.hash === '' && url.username === '') return given.replace(/\/$/, '');
    throw new Failure('config_invalid', `read the configuration ${where}: not of the form https://...`);
  },
};

/** `{"group there": ["role", "role@protection-group"]}`. */
const roleMapping: Setting<ReadonlyMap<string, GrantRequests>> = {
  read: (value, where) => {
    const given = typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
    const entries = Object.entries(given ?? {});
    if (entries.length === 0 || entries.length > GROUPS_MAX) throw wrong(where);
    return new Map(entries.map(([group, roles]) => [group, grantsOf(roles, `${where}: ${group}`)]));
  },
};

function grantsOf(value: unknown, where: string): GrantRequests {
  if (!Array.isArray(value) || value.length === 0) throw wrong(where);
  return value.map((one: unknown) => {
    const [role, group, ...more] = typeof one === 'string' ? one.split('@') : [];
    if (more.length > 0 || group === '' || !ROLES.includes(role as Role)) throw wrong(where);
    return { role: role as Role, ...(group === undefined ? {} : { group }) };
  });
}

function wrong(where: string): Failure {
  return new Failure(
    'config_invalid',
    `read the configuration ${where}: not of the form {"GROUP": ["ROLE", "ROLE@PROTECTION-GROUP"]}`,
    { hint: `Roles are ${ROLES.join(', ')}.` },
  );
}

export const OPENID_CONNECT = {
  /** As the provider names itself; its metadata is at /.well-known/openid-configuration below it. */
  issuer: secureUrl,
  clientId: text,
  clientSecretFile: absolutePath,
  roles: roleMapping,
  /** The claims that say which groups somebody is in, and what people call somebody. */
  groupsClaim: optional(text, 'groups'),
  nameClaim: optional(text, 'preferred_username'),
  /** Of the request: what makes the provider tell both. */
  scope: optional(text, 'openid profile'),
  /** Where people reach the manager, if that is not https://ADVERTISED_HOST:PORT. */
  publicUrl: optional(secureUrl, null),
  /** Authorities that the provider's certificate is checked by, besides the public ones. */
  caFile: optional(absolutePath, null),
  label: optional(text, 'single sign-on'),
};
export type OidcConfig = ConfigOf<typeof OPENID_CONNECT>;
export const openidConnect = optional(section(OPENID_CONNECT), null);
