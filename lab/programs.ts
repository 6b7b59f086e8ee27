/**
 * Antipode's own programs in a lab's sites: their configuration, their start, how they join, how the sites
 * pair.
 *
 * Everything goes through what a user has too: configuration files, join tokens, the API.
 */
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';
import type { Site } from './site.ts';

export const PROGRAMS = ['manager', 'replication-server', 'agent'] as const;
export type ProgramName = (typeof PROGRAMS)[number];
/** What `lab start SITE/NAME` may name besides libvirt's daemons. */
export type StartableName = ProgramName | 'gateway';

export interface StartOptions {
  readonly say: (line: string) => void;
  readonly save: () => void;
  /** Only this one, and without waiting for what others would have to do. */
  readonly only?: StartableName;
}

const MANAGER_PORT = 7480;
const SERVER_PORT = 7481;
/** The first choice for the machine's port of site 1; any free one is taken when somebody else has it. */
const GATEWAY_PORT = 7490;
const REPOSITORY = join(import.meta.dirname, '..');
const READY_MS = 120_000;
const POLL_MS = 50;
/** Where a program's members are listed once they have joined. */
const MEMBERS = { agent: '/api/v1/hosts', 'replication-server': '/api/v1/replication-servers' } as const;

export function isStartable(name: string): name is StartableName {
  return name === 'gateway' || (PROGRAMS as readonly string[]).includes(name);
}

/**
 * Starts what does not run yet. Returns when managers answer, programs have reported, and sites are paired.
 */
export async function startPrograms(sites: readonly Site[], options: StartOptions): Promise<void> {
  for (const site of sites) {
    for (const name of [...PROGRAMS, 'gateway'] as const) {
      if (options.only !== undefined && options.only !== name) continue;
      if (site.process(name) !== undefined) continue;
      options.say(`${site.name}: starting ${name}`);
      if (name === 'gateway') await startGateway(site);
      else await startProgram(site, name);
      options.save();
    }
  }
  if (options.only === undefined) await pairAll(sites, options.say);
}

async function startProgram(site: Site, name: ProgramName): Promise<void> {
  const main = join(REPOSITORY, 'src', name, 'main.ts');
  if (!existsSync(main)) throw new Failure('not_found', `${main} is missing`);
  const config = join(site.directory, `${name}.json`);
  await writeFile(config, `${JSON.stringify(configuration(site, name), null, 2)}\n`);
  if (name !== 'manager') await ensureJoinToken(site, name);
  const startedMs = systemClock.now();
  const argv = [process.execPath, '--disable-warning=ExperimentalWarning', main, '--config', config];
  site.state.processes[name] = await site.startProgram(name, argv);
  await waitUntil(site, name, `${name} at ${site.name} does not get ready`, () =>
    isReady(site, name, startedMs),
  );
}

function configuration(site: Site, name: ProgramName): Record<string, unknown> {
  const own = (directory: string): string => join(site.directory, directory);
  const managerUrl = `https://${site.address}:${MANAGER_PORT}`;
  switch (name) {
    case 'manager':
      return {
        data_directory: own('manager'),
        site_name: site.name,
        listen: { host: '0.0.0.0', port: MANAGER_PORT },
        socket_path: '/run/antipode/manager.sock',
        advertised_host: site.address,
      };
    case 'replication-server':
      return {
        data_directory: own('replication-server'),
        store_directory: own('replicas'),
        run_directory: '/run/antipode',
        listen: { host: '0.0.0.0', port: SERVER_PORT },
        advertised_host: site.address,
        manager_url: managerUrl,
        join_token_file: tokenFile(site, name),
      };
    case 'agent':
      return {
        data_directory: own('agent'),
        libvirt_socket: '/run/libvirt/libvirt-sock',
        storage_directory: own('disks'),
        scratch_directory: own('scratch'),
        run_directory: '/run/antipode',
        manager_url: managerUrl,
        join_token_file: tokenFile(site, name),
      };
  }
}

function tokenFile(site: Site, name: ProgramName): string {
  return join(site.directory, `${name}.token`);
}

/** A new token as long as no program of the kind has joined; programs start without their manager too. */
async function ensureJoinToken(site: Site, name: keyof typeof MEMBERS): Promise<void> {
  if (site.process('manager') === undefined) return;
  const members = await site.api.get<{ items: unknown[] }>(MEMBERS[name]);
  if (members.items.length > 0) return;
  const { token } = await site.api.post<{ token: string }>('/api/v1/join-tokens', { kind: name });
  await mkdir(site.directory, { recursive: true });
  await writeFile(tokenFile(site, name), `${token}\n`, { mode: 0o600 });
}

async function isReady(site: Site, name: ProgramName, startedMs: number): Promise<boolean> {
  if (name === 'manager') return site.api.isHealthy();
  if (site.process('manager') === undefined) return true;
  const members = await site.api.get<{ items: { report_ms: number | null }[] }>(MEMBERS[name]);
  return members.items.some((member) => (member.report_ms ?? 0) >= startedMs);
}

/** Ends at once when the program does, with what it said last. */
async function waitUntil(
  site: Site,
  name: ProgramName,
  complaint: string,
  isDone: () => Promise<boolean>,
): Promise<void> {
  const end = systemClock.monotonicMs() + READY_MS;
  while (!(await isDone())) {
    if (site.process(name) === undefined) {
      throw new Failure('tool_failed', `${name} at ${site.name} ended: ${await site.lastWords(name)}`);
    }
    if (systemClock.monotonicMs() > end) {
      throw new Failure('timeout', `${complaint} within ${READY_MS / 1000} s: ${await site.lastWords(name)}`);
    }
    await systemClock.sleep(POLL_MS);
  }
}

async function startGateway(site: Site): Promise<void> {
  const socket = await listenLocally(site.state.gateway_port ?? GATEWAY_PORT + site.state.number);
  try {
    const address = socket.address();
    site.state.gateway_port = typeof address === 'object' && address !== null ? address.port : null;
    const readyFile = join(site.directory, 'gateway.ready');
    const main = join(import.meta.dirname, 'gateway.ts');
    const argv = [process.execPath, main, site.address, String(MANAGER_PORT), readyFile];
    site.state.processes['gateway'] = await site.startProgram('gateway', argv, { readyFile, socket });
  } finally {
    socket.close();
  }
}

function listenLocally(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE' && port !== 0) listenLocally(0).then(resolve, reject);
      else reject(error);
    });
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

/** Each two sites whose managers run. */
async function pairAll(sites: readonly Site[], say: (line: string) => void): Promise<void> {
  for (const [index, a] of sites.entries()) {
    const known = (await a.api.get<{ items: { name: string }[] }>('/api/v1/sites')).items;
    for (const b of sites.slice(index + 1)) {
      if (known.some((site) => site.name === b.name)) continue;
      say(`pairing ${a.name} and ${b.name}`);
      const { token } = await b.api.post<{ token: string }>('/api/v1/pairing-tokens');
      await a.api.post('/api/v1/pairings', { token });
    }
  }
}
