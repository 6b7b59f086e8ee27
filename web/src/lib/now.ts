/** The time by the manager's clock, ticking for everything on the page together. */
import { useSyncExternalStore } from 'react';

const TICK_MS = 500;
let offsetMs = 0;
let nowMs = Date.now();
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

/** What the manager's clock said just now. */
export function learnNow(serverMs: number): void {
  offsetMs = serverMs - Date.now();
}

export function serverNow(): number {
  return Date.now() + offsetMs;
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  if (timer === undefined) nowMs = serverNow();
  timer ??= setInterval(() => {
    nowMs = serverNow();
    for (const each of listeners) each();
  }, TICK_MS);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

/** Renders again at every tick. */
export function useNow(): number {
  return useSyncExternalStore(subscribe, () => (timer === undefined ? roundedNow() : nowMs));
}

/** The same within a tick, as useSyncExternalStore wants it. */
function roundedNow(): number {
  const now = serverNow();
  return now - (now % TICK_MS);
}
