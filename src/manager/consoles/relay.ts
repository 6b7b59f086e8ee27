/**
 * Joins the screen that an agent has brought with a browser's WebSocket: each piece of the display's bytes is one
 * binary message, and what the browser sends goes to the display as it comes.
 *
 * Invariant: one piece is under way in each direction besides what the sockets hold: who reads slowly is read for
 * slowly.
 */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/** Why it ended; the last two are the manager's word, by its signals. */
export type ConsoleEnd = 'closed' | 'screen_gone' | 'idle' | 'refused' | 'stopping';

/** Close codes of our own (RFC 6455, section 7.4.2) and what the page shows. */
const GOODBYE: Record<Exclude<ConsoleEnd, 'closed'>, { code: number; reason: string }> = {
  screen_gone: { code: 4000, reason: 'The screen is gone: the VM was stopped, or its host is away.' },
  idle: { code: 4001, reason: 'It was closed because nothing happened on it for long.' },
  stopping: { code: 1001, reason: 'The manager stops; open it again when it is back.' },
  refused: { code: 4003, reason: 'The session has ended, or the right to see it was taken away.' },
};
/** For the browser's half of the goodbye. */
const GOODBYE_MS = 2000;

export type RelayLimits = { idleMs: number; pingEveryMs: number };
export type RelaySignals = { refused: AbortSignal; stopping: AbortSignal };

/** Both are closed when it resolves. Never rejects. */
export async function relay(
  screen: Duplex,
  browser: WebSocket,
  limits: RelayLimits,
  signals: RelaySignals,
): Promise<ConsoleEnd> {
  const { promise: ended, resolve: end } = Promise.withResolvers<ConsoleEnd>();
  const idle = setTimeout(end, limits.idleMs, 'idle');
  let isAnswered = true;
  const ping = setInterval(() => {
    if (!isAnswered) browser.terminate();
    isAnswered = false;
    browser.ping();
  }, limits.pingEveryMs);
  browser.on('pong', () => (isAnswered = true));
  browser.once('close', () => end('closed'));
  // A message that is too long, or is no WebSocket's: `close` follows.
  browser.on('error', () => undefined);
  browser.on('message', (bytes: Buffer) => {
    idle.refresh();
    if (screen.write(bytes)) return;
    browser.pause();
    screen.once('drain', () => browser.resume());
  });
  const unlisten = (['stopping', 'refused'] as const).map((why) => onAbort(signals[why], () => end(why)));
  void show(screen, browser).then(() => end(isOpen(browser) ? 'screen_gone' : 'closed'));
  const why = await ended;
  clearTimeout(idle);
  clearInterval(ping);
  for (const stop of unlisten) stop();
  screen.destroy();
  if (why !== 'closed') await sayGoodbye(browser, GOODBYE[why]);
  return why;
}

function isOpen(browser: WebSocket): boolean {
  return browser.readyState === browser.OPEN;
}

function onAbort(signal: AbortSignal, listener: () => void): () => void {
  if (signal.aborted) listener();
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
}

/** Resolves when there is no more to show, or nobody to show it to. */
async function show(screen: Duplex, browser: WebSocket): Promise<void> {
  try {
    for await (const bytes of screen) {
      await new Promise<void>((resolve, reject) => {
        browser.send(bytes as Buffer, (error) =>
          error === undefined || error === null ? resolve() : reject(error),
        );
      });
    }
  } catch {
    // Whichever of the two is gone, that is the end of it.
  }
}

async function sayGoodbye(
  browser: WebSocket,
  { code, reason }: { code: number; reason: string },
): Promise<void> {
  if (browser.readyState === browser.CLOSED) return;
  const closed = once(browser, 'close');
  const patience = setTimeout(() => browser.terminate(), GOODBYE_MS);
  // What it still has to send counts no more.
  browser.resume();
  browser.close(code, reason);
  await closed;
  clearTimeout(patience);
}
