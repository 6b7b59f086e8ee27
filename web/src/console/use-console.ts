/**
 * The screen of a VM inside an element: asks the manager for it, comes for it with a WebSocket, and says how it stands.
 * Why it ended is said by the manager, in the WebSocket's close.
 */
import RFB from '@novnc/novnc';
import { useEffect, useState, type RefObject } from 'react';
import { call } from '#/api/call.ts';

export type ConsoleState =
  | { kind: 'opening' }
  | { kind: 'shown'; screen: RFB; hostName: string }
  | { kind: 'ended'; error: Error };

const LOST = 'The connection was lost.';

/** Another `turn` opens it again. */
export function useConsole(
  recoveryId: string,
  target: RefObject<HTMLElement | null>,
  turn: number,
): ConsoleState {
  const [state, setState] = useState<ConsoleState>({ kind: 'opening' });
  useEffect(() => {
    const stop = new AbortController();
    const tell = (next: ConsoleState): void => {
      if (!stop.signal.aborted) setState(next);
    };
    tell({ kind: 'opening' });
    show(recoveryId, target.current!, { tell, signal: stop.signal }).catch((error: unknown) => {
      tell({ kind: 'ended', error: error instanceof Error ? error : new Error(LOST) });
    });
    return () => stop.abort();
  }, [recoveryId, target, turn]);
  return state;
}

/** Neither keys nor mouse go to the VM. */
export function keepHandsOff(screen: RFB, isOn: boolean): void {
  screen.viewOnly = isOn;
}

async function show(
  recoveryId: string,
  target: HTMLElement,
  { signal, tell }: { tell: (state: ConsoleState) => void; signal: AbortSignal },
): Promise<void> {
  const { host_name: hostName, id } = await call('POST /api/v1/recoveries/{id}/consoles', {
    params: { id: recoveryId },
    signal,
  });
  if (signal.aborted) return;
  const socket = new WebSocket(`wss://${location.host}/api/v1/consoles/${id}`);
  let reason = LOST;
  socket.addEventListener('close', (event) => (reason = event.reason === '' ? LOST : event.reason));
  const screen = new RFB(target, socket, { shared: true });
  screen.scaleViewport = true;
  screen.background = 'transparent';
  screen.addEventListener('connect', () => tell({ kind: 'shown', screen, hostName }));
  const refused = 'The display asks for a password, which the displays of recovered VMs do not have.';
  screen.addEventListener('credentialsrequired', () => {
    reason = refused;
    screen.disconnect();
  });
  // The reason is known once the socket has closed, which may be a moment later.
  screen.addEventListener('disconnect', () => {
    setTimeout(() => tell({ kind: 'ended', error: new Error(reason) }));
  });
  signal.addEventListener('abort', () => screen.disconnect(), { once: true });
}
