/** Looks at what a manager keeps: its database, its authority; and asks it for alarms where it runs. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { request } from 'node:http';
import { join } from 'node:path';
import { describe, Failure } from '#/lib/failure.ts';
import type { ManagerConfig } from '#/manager/manager-config.ts';
import { lookAtDatabase } from '#/manager/store/look-at-database.ts';
import { MIGRATIONS } from '#/manager/store/migrations.ts';
import type { Gathered } from './finding.ts';
import { gatherReach, modeOf, textIfThere } from './gather-shared.ts';
import type { ReachFacts } from './judge-shared.ts';
import type { AuthorityFacts, DatabaseFacts, StandingAlarm } from './judge-site.ts';

const PEER_TIMEOUT_MS = 4000;
const ANSWER_BYTES_MAX = 8 * 1024 * 1024;

export type PeerReach = { name: string; address: string; facts: Gathered<ReachFacts> };

export async function gatherDatabase(config: ManagerConfig): Promise<DatabaseFacts> {
  const { backupMs, kind, migrations } = await lookAtDatabase(config.databaseUrl);
  return { kind, migrations, backupMs, nowMs: Date.now(), known: Object.keys(MIGRATIONS) };
}

/** Each paired site that the database names, asked at the same time. */
export async function gatherPeers(config: ManagerConfig, signal: AbortSignal): Promise<PeerReach[]> {
  const { peers } = await lookAtDatabase(config.databaseUrl);
  const own = await ownCredentials(config.dataDirectory);
  return Promise.all(
    peers.map(async ({ caPem, host, port, siteName }) => {
      const within = AbortSignal.any([signal, AbortSignal.timeout(PEER_TIMEOUT_MS)]);
      const reached = async (): Promise<Gathered<ReachFacts>> => {
        try {
          return { value: await gatherReach({ host, port }, { caPem, ...own }, within) };
        } catch (error) {
          return { failure: describe(error) };
        }
      };
      return { name: `site ${siteName}`, address: `${host}:${port}`, facts: await reached() };
    }),
  );
}

export async function gatherAuthority(directory: string): Promise<AuthorityFacts> {
  const caPem = await textIfThere(join(directory, 'ca.pem'));
  if (caPem === undefined) return undefined;
  const keyPath = join(directory, 'ca.key.pem');
  const keyPem = await textIfThere(keyPath);
  const ca = new X509Certificate(caPem);
  const own = await textIfThere(join(directory, 'manager-keys.json'));
  return {
    hasKey: keyPem !== undefined && ca.checkPrivateKey(createPrivateKey(keyPem)),
    keyMode: (await modeOf(keyPath)) ?? 0o600,
    endsMs: ca.validToDate.getTime(),
    managerEndsMs: own === undefined ? undefined : endOfKeys(own),
    nowMs: Date.now(),
  };
}

async function ownCredentials(
  directory: string,
): Promise<{ credentials: { cert: string; key: string } } | Record<string, never>> {
  const text = await textIfThere(join(directory, 'manager-keys.json'));
  if (text === undefined) return {};
  const { certificatePem, privateKeyPem } = JSON.parse(text) as Record<
    'certificatePem' | 'privateKeyPem',
    string
  >;
  return { credentials: { cert: certificatePem, key: privateKeyPem } };
}

function endOfKeys(text: string): number {
  const { certificatePem } = JSON.parse(text) as { certificatePem: string };
  return new X509Certificate(certificatePem).validToDate.getTime();
}

export async function gatherAlarms(socketPath: string, signal: AbortSignal): Promise<StandingAlarm[]> {
  const { items } = (await askManager(socketPath, '/api/v1/alarms', signal)) as {
    items: (StandingAlarm & { cleared_ms: number | null })[];
  };
  return items.filter(({ cleared_ms: clearedMs }) => clearedMs === null);
}

/** What the API answers to root. Throws unreachable, forbidden. */
function askManager(socketPath: string, path: string, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path, signal }, (response) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > ANSWER_BYTES_MAX) asked.destroy(new Error('the answer is too long'));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        if (response.statusCode === 200) resolve(JSON.parse(text));
        else reject(new Failure('forbidden', `the manager answered ${response.statusCode} to ${path}`));
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}
