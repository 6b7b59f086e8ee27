/** The screen of a VM that was recovered or is tested here, with its keyboard and mouse. */
import { Button, Label, PageSection, Spinner, Switch } from '@patternfly/react-core';
import { useEffect, useRef, useState, type KeyboardEvent } from 'react';
import { useParams } from 'react-router';
import { addresses } from '#/addresses.ts';
import { useCall } from '#/api/use-call.ts';
import { PageHead } from '#/shell/page-head.tsx';
import { ActionButton } from '#/shared/action-button.tsx';
import { ProblemAlert } from '#/shared/problem-alert.tsx';
import { keepHandsOff, useConsole, type ConsoleState } from './use-console.ts';

export function ConsolePage() {
  const { id = '' } = useParams();
  const recovery = useCall('GET /api/v1/recoveries/{id}', ['jobs'], { params: { id } });
  const name = recovery.data?.name ?? id;
  const frame = useRef<HTMLDivElement>(null);
  const target = useRef<HTMLDivElement>(null);
  const leave = useRef<HTMLButtonElement>(null);
  const [turn, setTurn] = useState(0);
  const [isLooking, setLooking] = useState(false);
  const state = useConsole(id, target, turn);
  const screen = state.kind === 'shown' ? state.screen : undefined;
  useEffect(() => screen?.focus({ preventScroll: true }), [screen]);
  useEffect(() => {
    if (screen !== undefined) keepHandsOff(screen, isLooking);
  }, [screen, isLooking]);
  const whyNot = screen === undefined ? 'There is no screen to send it to.' : undefined;
  return (
    <>
      <PageHead
        title={`Screen of ${name}`}
        crumbs={[
          ['Virtual machines', addresses.vms],
          [`Recovery of ${recovery.data?.vm_name ?? id}`, addresses.recovery(id)],
        ]}
        beside={<StateLabel state={state} />}
        actions={
          <>
            <Switch
              label="Only look"
              isChecked={isLooking}
              onChange={(_event, isOn) => setLooking(isOn)}
              className="console-look"
            />
            <ActionButton
              name="Ctrl+Alt+Del"
              whyNot={isLooking ? 'You only look.' : whyNot}
              onClick={() => {
                screen?.sendCtrlAltDel();
                screen?.focus();
              }}
            />
            {screen !== undefined && (
              <Button
                ref={leave}
                variant="secondary"
                onClick={() => void frame.current?.requestFullscreen().then(() => screen?.focus())}
              >
                Full screen
              </Button>
            )}
            {state.kind === 'ended' && <Button onClick={() => setTurn(turn + 1)}>Open again</Button>}
          </>
        }
      />
      <PageSection hasBodyWrapper={false} isFilled className="console-section">
        {state.kind === 'ended' && <ProblemAlert error={state.error} title="The screen is closed" />}
        <div
          ref={frame}
          className="console-frame"
          hidden={state.kind === 'ended'}
          onKeyDownCapture={(event) => {
            if (!isWayOut(event)) return;
            event.preventDefault();
            event.stopPropagation();
            screen?.blur();
            leave.current?.focus();
          }}
        >
          {state.kind === 'opening' && (
            <p className="console-words">
              <Spinner size="lg" aria-hidden /> Asking the host for the screen…
            </p>
          )}
          <div
            ref={target}
            className="console-screen"
            role="application"
            aria-label={`Screen of ${name}. Ctrl+Alt+Home leaves it.`}
            hidden={state.kind !== 'shown'}
          />
        </div>
        <p className="console-help" hidden={screen === undefined}>
          While the screen has the focus, all keys go to the VM. Ctrl+Alt+Home, or a click beside it, gives
          them back.
        </p>
      </PageSection>
    </>
  );
}

/** Every other key is the VM's, and a keyboard alone must find the way back to the page. */
function isWayOut(event: KeyboardEvent): boolean {
  return event.ctrlKey && event.altKey && event.key === 'Home';
}

function StateLabel({ state }: { state: ConsoleState }) {
  if (state.kind === 'opening') return <Label variant="outline">opening</Label>;
  if (state.kind === 'ended') return <Label variant="outline">closed</Label>;
  return (
    <Label variant="outline" status="success">
      live from {state.hostName}
    </Label>
  );
}
