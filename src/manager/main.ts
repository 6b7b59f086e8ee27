#!/usr/bin/env node
/** The manager's program: `--config FILE`, in the foreground, until SIGTERM or SIGINT. */
import { parseArgs } from 'node:util';
import { describe, Failure, failureIn } from '#/lib/failure.ts';
import { createLog, failureFields } from '#/lib/log.ts';
import { systemClock } from '#/lib/system-clock.ts';
import { systemRandom } from '#/lib/system-random.ts';
import { readManagerConfig } from './manager-config.ts';
import { Manager } from './manager.ts';

const USAGE = 'antipode manager --config FILE';

function configPath(): string {
  try {
    const { values } = parseArgs({ options: { config: { type: 'string' } } });
    if (values.config !== undefined) return values.config;
  } catch (error) {
    throw new Failure('usage_invalid', 'read the command line', { cause: error, hint: `Run: ${USAGE}` });
  }
  throw new Failure('usage_invalid', '--config is missing', { hint: `Run: ${USAGE}` });
}

async function main(): Promise<void> {
  const config = await readManagerConfig(configPath());
  const log = createLog('manager').with({ site: config.siteName });
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stop.abort(signal));
  await using manager = await Manager.start(config, { clock: systemClock, random: systemRandom, log });
  log.info('manager.ready', { address: `${config.listen.host}:${manager.port}`, socket: config.socketPath });
  await new Promise<void>((resolve) => {
    if (stop.signal.aborted) resolve();
    else stop.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  log.info('manager.stopping', { signal: String(stop.signal.reason) });
}

try {
  await main();
} catch (error) {
  const failure = failureIn(error);
  if (failure === undefined) throw error;
  createLog('manager').error('manager.failed', failureFields(error));
  process.stderr.write(`${describe(error)}\n${failure.hint === undefined ? '' : `${failure.hint}\n`}`);
  process.exitCode = failure.exitCode;
}
