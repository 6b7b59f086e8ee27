/** Ends a stream whose reader may no longer read it: a session that has ended, a token that was revoked. */
import type { Context } from '#/manager/context.ts';
import { STREAM_ADMIT_EVERY_MS } from '#/manager/limits.ts';

/** `admit` throws when the reader would not be let in now. Resolves when the stream has ended. */
export async function endWhenRefused(
  { changes }: Pick<Context, 'changes'>,
  admit: () => Promise<void>,
  gone: AbortController,
): Promise<void> {
  while (!gone.signal.aborted) {
    await changes.next(['access'], STREAM_ADMIT_EVERY_MS, gone.signal);
    if (gone.signal.aborted) return;
    try {
      await admit();
    } catch {
      // Whatever the reason, even a database that does not answer: the reader comes back, and is told it.
      gone.abort();
    }
  }
}
