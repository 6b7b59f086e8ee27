/** Follows a VM's serial log on standard output until interrupted. */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { Failure } from '#/lib/failure.ts';
import { systemClock } from '#/lib/system-clock.ts';

const POLL_MS = 100;
const BEFORE_BYTES = 2000;

/**
 * Begins shortly before the end of what is there. Returns when `signal` aborts, or at the end with `follow`
 * false.
 */
export async function followLog(
  path: string,
  options: { follow: boolean; signal: AbortSignal },
): Promise<void> {
  if (!existsSync(path)) {
    throw new Failure('not_found', `there is no serial log at ${path}`, {
      hint: 'Has the VM been started here?',
    });
  }
  let offset = Math.max(0, statSync(path).size - BEFORE_BYTES);
  while (!options.signal.aborted) {
    const end = statSync(path).size;
    // The log was rotated.
    if (end < offset) offset = 0;
    if (end > offset) {
      for await (const part of createReadStream(path, { start: offset, end: end - 1 }))
        process.stdout.write(part as Buffer);
      offset = end;
    }
    if (!options.follow) return;
    await systemClock.sleep(POLL_MS, options.signal).catch(() => undefined);
  }
}
