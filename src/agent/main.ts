/** The agent: replicates the VMs of its host by its manager's orders, and brings VMs up. Run with --config FILE. */
import { readConfig } from '#/lib/config.ts';
import { createLog } from '#/lib/log.ts';
import { configPath, runProgram } from '#/lib/program.ts';
import { AGENT_CONFIG } from './agent-config.ts';
import { runAgent } from './agent.ts';

const log = createLog('agent');

await runProgram(log, async (signal) => {
  const config = await readConfig(configPath(process.argv.slice(2)), AGENT_CONFIG);
  await runAgent(config, log, signal);
});
