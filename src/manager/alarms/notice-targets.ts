/** Who is told of alarms: a JSON file that only root can read, since it may hold passwords (docs/operate/alarms.md). */
import { readFile, stat } from 'node:fs/promises';
import { Type, type Static } from 'typebox';
import { Check, Errors } from 'typebox/value';
import { Failure } from '#/lib/failure.ts';

const closed = { additionalProperties: false };
const Address = Type.String({ minLength: 3, maxLength: 320, pattern: '^[^\\s<>",;]+@[^\\s<>",;]+$' });
const Webhook = Type.Object(
  {
    url: Type.String({ maxLength: 2048, pattern: '^https?://[^\\s]+$' }),
    /** Signs what is sent, so that its receiver knows who sent it. */
    secret: Type.Optional(Type.String({ minLength: 16, maxLength: 512 })),
  },
  closed,
);
const Mail = Type.Object(
  {
    /** smtp: with STARTTLS where the server offers it; smtps: with TLS. May hold a user and a password. */
    server: Type.String({ maxLength: 2048, pattern: '^smtps?://[^\\s]+$' }),
    from: Address,
    to: Type.Array(Address, { minItems: 1, maxItems: 50 }),
  },
  closed,
);
const File = Type.Object(
  { webhooks: Type.Optional(Type.Array(Webhook, { maxItems: 16 })), mail: Type.Optional(Mail) },
  closed,
);

/** `key` tells targets apart in the database and to people, without any secret of theirs. */
export type NoticeTarget =
  | ({ kind: 'webhook'; key: string } & Static<typeof Webhook>)
  | ({ kind: 'mail'; key: string } & Static<typeof Mail>);

/** Throws config_invalid. */
export async function readNoticeTargets(path: string | null): Promise<NoticeTarget[]> {
  if (path === null) return [];
  const value = await readSecretJson(path);
  if (!Check(File, value)) {
    const [first] = Errors(File, value);
    throw invalid(path, `${first?.instancePath ?? ''} ${first?.message ?? 'is wrong'}`.trim());
  }
  const webhooks = (value.webhooks ?? []).map((one): NoticeTarget => {
    if (!URL.canParse(one.url)) throw invalid(path, 'a webhook has a url that is none');
    const { origin, pathname } = new URL(one.url);
    return { kind: 'webhook', key: `webhook ${origin}${pathname}`, ...one };
  });
  if (value.mail === undefined) return webhooks;
  if (!URL.canParse(value.mail.server)) throw invalid(path, 'mail has a server that is no URL');
  return [...webhooks, { kind: 'mail', key: `mail by ${new URL(value.mail.server).host}`, ...value.mail }];
}

async function readSecretJson(path: string): Promise<unknown> {
  try {
    if (((await stat(path)).mode & 0o077) !== 0) {
      throw invalid(path, 'others may read it, and it may hold passwords', 'chmod 600 it.');
    }
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    if (error instanceof Failure) throw error;
    // What a parser says of a text may quote it.
    if (error instanceof SyntaxError) throw invalid(path, 'it is not JSON');
    throw new Failure('config_invalid', `read ${path}`, { cause: error });
  }
}

function invalid(path: string, what: string, hint = 'docs/operate/alarms.md shows one.'): Failure {
  return new Failure('config_invalid', `alarm_targets_file ${path}: ${what}`, { hint });
}
