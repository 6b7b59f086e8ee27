/**
 * Which manager a command talks to: `--manager`, `--site` of a lab on this machine, $ANTIPODE_MANAGER, the manager of
 * this machine, or the only one of the lab, in this order. Several to choose from is a question, never a guess.
 */
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import type { Target } from './http-json.ts';

export type TargetOptions = {
  manager?: string;
  site?: string;
  tokenFile?: string;
  caFile?: string;
};

const SOCKET = '/run/antipode/manager.sock';
const LAB_SOCKET = 'run/antipode/manager.sock';
const DEFAULT_LAB = '/var/lib/antipode-lab';

/** Throws usage_invalid, not_found. */
export async function chooseTarget(options: TargetOptions): Promise<Target> {
  const candidates = await candidateTargets(options);
  const [first] = candidates;
  if (first === undefined) {
    throw new Failure('not_found', `there is no manager at ${SOCKET}, and no lab on this machine`, {
      hint: 'Name it with --manager unix:/PATH or https://HOST:PORT, or start a lab: antipode lab up',
    });
  }
  if (candidates.length === 1) return first.target;
  throw whichSite(candidates.map(({ site }) => site));
}

export function whichSite(sites: readonly string[]): Failure {
  return new Failure(
    'usage_invalid',
    `which site? The lab on this machine has several: ${sites.join(', ')}`,
    {
      hint: `Add one of: ${sites.map((site) => `--site ${site}`).join(', ')}`,
    },
  );
}

/** All that the options leave to choose from. */
export async function candidateTargets(options: TargetOptions): Promise<{ site: string; target: Target }[]> {
  if (options.manager !== undefined) return [await named(options.manager, options)];
  if (options.site !== undefined) return [labSite(options.site)];
  const fromEnvironment = process.env['ANTIPODE_MANAGER'];
  if (fromEnvironment !== undefined) return [await named(fromEnvironment, options)];
  if (existsSync(SOCKET)) return [{ site: '', target: { kind: 'unix', socketPath: SOCKET } }];
  return labSites().map(labSite);
}

async function named(text: string, options: TargetOptions): Promise<{ site: string; target: Target }> {
  if (text.startsWith('unix:/')) {
    return { site: '', target: { kind: 'unix', socketPath: text.slice('unix:'.length) } };
  }
  const url = URL.parse(text);
  if (url?.protocol !== 'https:') {
    throw new Failure('usage_invalid', `"${text}" is no address of a manager`, {
      hint: 'Write unix:/PATH or https://HOST:PORT.',
    });
  }
  const tokenFile = options.tokenFile ?? process.env['ANTIPODE_TOKEN_FILE'];
  const caFile = options.caFile ?? process.env['ANTIPODE_CA_FILE'];
  if (tokenFile === undefined) {
    throw new Failure('unauthenticated', `${url.origin} asks for a token`, {
      hint: 'Make one there with "antipode token NAME", and name its file with --token-file.',
    });
  }
  const token = (await readInput(tokenFile)).trim();
  const caPem = caFile === undefined ? undefined : await readInput(caFile);
  return { site: '', target: { kind: 'https', url, token, caPem } };
}

async function readInput(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw new Failure('usage_invalid', `read ${path}`, { cause: error });
  }
}

function labDirectory(): string {
  return process.env['ANTIPODE_LAB'] ?? DEFAULT_LAB;
}

function labSites(): string[] {
  const directory = join(labDirectory(), 'sites');
  if (!existsSync(directory)) return [];
  return readdirSync(directory)
    .filter((site) => existsSync(join(directory, site, LAB_SOCKET)))
    .toSorted();
}

function labSite(site: string): { site: string; target: Target } {
  const socketPath = join(labDirectory(), 'sites', site, LAB_SOCKET);
  if (existsSync(socketPath)) return { site, target: { kind: 'unix', socketPath } };
  const known = labSites();
  const hint =
    known.length === 0
      ? 'Start a lab with "antipode lab up", or name a manager with --manager.'
      : `It has: ${known.join(', ')}.`;
  throw new Failure('not_found', `the lab in ${labDirectory()} has no manager of a site "${site}"`, { hint });
}
