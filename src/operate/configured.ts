/** Which programs are configured on this machine, by the same files that they read. */
import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { AGENT_CONFIG, type AgentConfig } from '#/agent/agent-config.ts';
import { readConfig } from '#/lib/config.ts';
import { describe } from '#/lib/failure.ts';
import { readManagerConfig, type ManagerConfig } from '#/manager/manager-config.ts';
import { SERVER_CONFIG, type ServerConfig } from '#/replication-server/server-config.ts';
import type { Gathered } from './finding.ts';
import { modeOf } from './gather-shared.ts';

export const CONFIG_DIRECTORY = '/etc/antipode';

export type ConfigFile = { path: string; facts: Gathered<{ mode: number; holdsSecrets: boolean }> };
export type Configured = {
  files: ConfigFile[];
  agent?: AgentConfig;
  server?: ServerConfig;
  manager?: ManagerConfig;
};

/** A file that is not there is a program that is not here; one that cannot be read is told of by its check. */
export async function readConfigured(directory: string): Promise<Configured> {
  const configured: Configured = { files: [] };
  const read = async <T>(
    name: string,
    how: (path: string) => Promise<T>,
    holdsSecrets: (config: T) => boolean,
  ) => {
    const path = join(directory, name);
    if (!(await isThere(path))) return undefined;
    try {
      const config = await how(path);
      const mode = (await modeOf(path)) ?? 0;
      configured.files.push({ path, facts: { value: { mode, holdsSecrets: holdsSecrets(config) } } });
      return config;
    } catch (error) {
      configured.files.push({ path, facts: { failure: describe(error) } });
      return undefined;
    }
  };
  const manager = await read('manager.json', readManagerConfig, holdsPassword);
  const server = await read(
    'replication-server.json',
    (path) => readConfig(path, SERVER_CONFIG),
    () => false,
  );
  const agent = await read(
    'agent.json',
    (path) => readConfig(path, AGENT_CONFIG),
    () => false,
  );
  return {
    ...configured,
    ...(manager === undefined ? {} : { manager }),
    ...(server === undefined ? {} : { server }),
    ...(agent === undefined ? {} : { agent }),
  };
}

function holdsPassword(config: ManagerConfig): boolean {
  const url = URL.parse(config.databaseUrl);
  return url !== null && (url.password !== '' || url.searchParams.has('password'));
}

async function isThere(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ENOENT';
  }
}
