/**
 * A program's membership of its site, on disk: made by joining once, kept from then on (docs/architecture.md,
 * "Control").
 *
 * Invariant: the token is used at most once by this program: a membership on disk is never asked for again.
 */
import { X509Certificate } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { join as joinPath } from 'node:path';
import { Check } from 'typebox/value';
import { Type } from 'typebox';
import { Backoff } from '#/lib/backoff.ts';
import type { Clock } from '#/lib/clock.ts';
import { readDurableJson, writeDurableJson } from '#/lib/durable-json.ts';
import { Failure, failureIn } from '#/lib/failure.ts';
import { failureFields, type Log } from '#/lib/log.ts';
import { systemRandom } from '#/lib/system-random.ts';
import type { ManagerAddress } from './https-client.ts';
import { JoinReply, type MemberKind } from './join.ts';
import { join, type Membership } from './manager-client.ts';

const MembershipFile = Type.Object(
  { ...JoinReply.properties, private_key_pem: Type.String({ maxLength: 16_384 }) },
  { additionalProperties: false },
);
const RETRY = { firstMs: 500, maxMs: 15_000 };

export type MemberOptions = {
  kind: MemberKind;
  name: string;
  dataDirectory: string;
  manager: ManagerAddress;
  tokenFile: string | undefined;
  clock: Clock;
  log: Log;
};

/**
 * The membership on disk; joins the site when there is none, waiting for a manager that is away. Throws
 * config_invalid, token_invalid, certificate_invalid: what waiting cannot mend.
 */
export async function joinedMembership(options: MemberOptions, signal: AbortSignal): Promise<Membership> {
  await mkdir(options.dataDirectory, { recursive: true, mode: 0o700 });
  const kept = await readMembership(options.dataDirectory);
  if (kept !== undefined) return kept;
  const token = await readToken(options);
  const backoff = new Backoff(RETRY, systemRandom);
  for (;;) {
    try {
      const member = { kind: options.kind, name: options.name };
      const membership = await join(options.manager, token, member, signal);
      await keepMembership(options.dataDirectory, membership);
      options.log.info('joined', { site: membership.site_id, id: membership.id });
      return membership;
    } catch (error) {
      const failure = failureIn(error);
      if (failure === undefined || failure.retry === 'never') throw error;
      options.log.warning('join.retried', failureFields(error));
      await options.clock.sleep(backoff.nextMs(), signal);
    }
  }
}

export async function keepMembership(dataDirectory: string, membership: Membership): Promise<void> {
  await writeDurableJson(pathIn(dataDirectory), membership);
}

async function readMembership(dataDirectory: string): Promise<Membership | undefined> {
  const path = pathIn(dataDirectory);
  const value = await readDurableJson(path);
  if (value === undefined) return undefined;
  if (!Check(MembershipFile, value)) {
    throw new Failure('storage_corrupt', `read ${path}: not a membership of a site`, {
      hint: 'Restore the file, or remove it and join the program again with a new token.',
    });
  }
  return value;
}

async function readToken(options: MemberOptions): Promise<string> {
  if (options.tokenFile === undefined) {
    throw new Failure('config_invalid', 'join the site: join_token_file is missing', {
      hint: `Make a token of kind ${options.kind} at the manager and name its file in the configuration.`,
    });
  }
  try {
    return (await readFile(options.tokenFile, 'utf8')).trim();
  } catch (error) {
    throw new Failure('config_invalid', `join the site: read the token in ${options.tokenFile}`, {
      cause: error,
    });
  }
}

function pathIn(dataDirectory: string): string {
  return joinPath(dataDirectory, 'membership.json');
}

/** True once less than a third of the certificate's life is left. */
export function isRenewalDue(certificatePem: string, nowMs: number): boolean {
  const { validFromDate, validToDate } = new X509Certificate(certificatePem);
  const lifeMs = validToDate.getTime() - validFromDate.getTime();
  return (validToDate.getTime() - nowMs) * 3 < lifeMs;
}
