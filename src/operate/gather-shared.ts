/** Looks at what every program of Antipode depends on. Changes nothing; works while the programs run and while not. */
import { execFile } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { readFile, stat, statfs } from 'node:fs/promises';
import { request } from 'node:https';
import { connect, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { readDurableJson } from '#/lib/durable-json.ts';
import type { MembershipFacts, PortFacts, ReachFacts, SpaceFacts } from './judge-shared.ts';

const REPLY_CHARACTERS_MAX = 10_000;
const OUTPUT_BYTES_MAX = 256 * 1024;

/** What it printed; undefined when there is no such program. Throws tool_failed when it says no. */
export function outputOf(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<string | undefined> {
  const env = { ...process.env, LC_ALL: 'C', PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
  const options = { encoding: 'utf8', maxBuffer: OUTPUT_BYTES_MAX, signal, env } as const;
  return new Promise((resolve, reject) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else if (error.code === 'ENOENT') resolve(undefined);
      else reject(new Failure('tool_failed', `${program}: ${stderr.trim().slice(0, 300) || error.message}`));
    });
  });
}

export async function textIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** Of the directory, or of what will hold it once it is made. */
export async function gatherSpace(path: string): Promise<SpaceFacts> {
  for (let at = path; ; at = dirname(at)) {
    try {
      const { bavail, bsize, files, ffree } = await statfs(at);
      return { path: at, freeBytes: bavail * bsize, inodes: files, freeInodes: ffree };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || at === '/') throw error;
    }
  }
}

export async function gatherClock(
  signal: AbortSignal,
): Promise<{ isSynchronized: boolean | undefined; by: string }> {
  const said = await outputOf('timedatectl', ['show', '-p', 'NTPSynchronized', '--value'], signal).catch(
    () => undefined,
  );
  const word = said?.trim();
  if (word === 'yes') return { isSynchronized: true, by: 'timedatectl' };
  const tracking = await outputOf('chronyc', ['-c', 'tracking'], signal).catch(() => undefined);
  // The last column is the state of the leap second, which is not known while nothing is followed.
  if (tracking !== undefined && tracking.trim() !== '') {
    return { isSynchronized: !tracking.trim().endsWith('Not synchronised'), by: 'chronyc' };
  }
  return { isSynchronized: word === 'no' ? false : undefined, by: 'timedatectl' };
}

/** `expiresMs` 0: not joined yet. */
export async function gatherMembership(
  dataDirectory: string,
  tokenFile: string | undefined,
): Promise<MembershipFacts> {
  const kept = (await readDurableJson(join(dataDirectory, 'membership.json'))) as
    | { certificate_pem?: string }
    | undefined;
  const nowMs = Date.now();
  if (kept === undefined) {
    const token = tokenFile === undefined ? undefined : await textIfThere(tokenFile);
    return { expiresMs: 0, nowMs, hasToken: token !== undefined && token.trim() !== '' };
  }
  const certificate = new X509Certificate(kept.certificate_pem ?? '');
  return { expiresMs: certificate.validToDate.getTime(), nowMs, hasToken: false };
}

/** The authority that a program trusts; undefined before it has joined. */
export async function authorityOf(dataDirectory: string): Promise<string | undefined> {
  const kept = (await readDurableJson(join(dataDirectory, 'membership.json'))) as
    | { ca_pem?: string }
    | undefined;
  return kept?.ca_pem;
}

/**
 * Whether a manager of that authority answers, and how far its clock is away: known to the second that its answer
 * names, less what the answer took. Without an authority nobody's certificate is compared.
 */
export function gatherReach(
  address: { host: string; port: number },
  trusted: { caPem: string | undefined; credentials?: { cert: string; key: string } },
  signal: AbortSignal,
): Promise<ReachFacts> {
  const { caPem, credentials } = trusted;
  // With the certificate of a manager, another manager tells its version; anybody may ask whether it lives.
  const path = credentials === undefined ? '/healthz' : '/peer/v1/version';
  return new Promise((resolve, reject) => {
    const beganMs = Date.now();
    const trust = caPem === undefined ? { rejectUnauthorized: false } : { ca: caPem };
    const asked = request(
      {
        ...address,
        path,
        signal,
        agent: false,
        servername: '',
        checkServerIdentity,
        ...trust,
        ...credentials,
      },
      (response) => {
        const endedMs = Date.now();
        const theirMs = Date.parse(response.headers.date ?? '');
        const status = response.statusCode ?? 0;
        const behindMs = Math.min(0, theirMs + 1000 - beganMs);
        const skewMs = behindMs < 0 ? behindMs : Math.max(0, theirMs - endedMs);
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (part: string) => (text = (text + part).slice(0, REPLY_CHARACTERS_MAX)));
        response.on('error', reject);
        response.on('end', () => {
          const version = /"version":"([^"]{1,64})"/.exec(text)?.[1];
          resolve({ status, skewMs: Number.isNaN(skewMs) ? 0 : skewMs, version });
        });
      },
    );
    asked.on('error', reject);
    asked.end();
  });
}

/** A manager keeps its identity when its address changes: its authority is compared, its host name is not. */
function checkServerIdentity(): undefined {}

export async function gatherPort(
  address: { host: string; port: number },
  signal: AbortSignal,
): Promise<PortFacts> {
  const host = address.host === '0.0.0.0' ? '127.0.0.1' : address.host === '::' ? '::1' : address.host;
  if (await connects(host, address.port, signal)) return 'listening';
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', (error) => resolve({ refused: error.message }));
    server.listen(address.port, address.host, () => server.close(() => resolve('free')));
  });
}

function connects(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    const end = (answer: boolean): void => {
      signal.removeEventListener('abort', give);
      socket.destroy();
      resolve(answer);
    };
    const give = (): void => end(false);
    signal.addEventListener('abort', give, { once: true });
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
  });
}

export async function modeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mode & 0o7777;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}
