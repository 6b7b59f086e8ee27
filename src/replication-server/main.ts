/** The replication server: receives and keeps replicas, and serves their recovery points. Run with --config FILE. */
import { readConfig } from '#/lib/config.ts';
import { createLog } from '#/lib/log.ts';
import { configPath, runProgram } from '#/lib/program.ts';
import { runServer } from './replication-server.ts';
import { SERVER_CONFIG } from './server-config.ts';

const log = createLog('replication-server');

await runProgram(log, async (signal) => {
  const config = await readConfig(configPath(process.argv.slice(2)), SERVER_CONFIG);
  await runServer(config, log, signal);
});
