/** Steps as they happen: what is over, what runs and for how long, what waits. */
import { CheckCircleIcon } from '@patternfly/react-icons/dist/esm/icons/check-circle-icon';
import { ClockIcon } from '@patternfly/react-icons/dist/esm/icons/clock-icon';
import { ExclamationCircleIcon } from '@patternfly/react-icons/dist/esm/icons/exclamation-circle-icon';
import { Progress, Spinner } from '@patternfly/react-core';
import type { ReactNode } from 'react';
import { moment, span } from '#/lib/format.ts';
import { useNow } from '#/lib/now.ts';

export type ShownStep = {
  key: string;
  name: string;
  state: string;
  startedMs: number | null;
  endedMs: number | null;
  failure: string | null;
  note: string | null;
  progress?: { readonly done_bytes: number; readonly total_bytes: number } | null;
  details?: readonly { name: string; startedMs: number; endedMs: number | null; note: string | null }[];
  /** What waits for a person. */
  ask?: ReactNode;
};

export function StepList({ steps }: { steps: readonly ShownStep[] }) {
  const nowMs = useNow();
  if (steps.length === 0) return <p className="subtle">None yet.</p>;
  return (
    <ol className="step-list">
      {steps.map((step) => (
        <li key={step.key} className={`step step-${step.state}`}>
          <span className="step-icon">{iconOf(step.state)}</span>
          <span className="step-name">
            {step.name}
            {step.note !== null && <span className="subtle"> {step.note}</span>}
            {step.failure !== null && <div className="icon-error">{step.failure}</div>}
          </span>
          <span className="number subtle">
            {step.startedMs === null ? '' : moment(step.startedMs, nowMs)}
          </span>
          <span className="number">{took(step, nowMs)}</span>
          {step.progress !== null &&
            step.progress !== undefined &&
            step.endedMs === null &&
            step.progress.total_bytes > 0 && (
              <Progress
                className="step-more"
                size="sm"
                aria-label={`${step.name} so far`}
                value={(100 * step.progress.done_bytes) / step.progress.total_bytes}
              />
            )}
          {step.ask !== undefined && <div className="step-more">{step.ask}</div>}
          {(step.details ?? []).length > 0 && (
            <ul className="step-more step-details">
              {step.details!.map((detail) => (
                <li key={`${detail.name} ${detail.startedMs}`}>
                  <span>
                    {detail.name} <span className="subtle">{detail.note}</span>
                  </span>
                  <span className="number subtle">{took(detail, nowMs)}</span>
                </li>
              ))}
            </ul>
          )}
        </li>
      ))}
    </ol>
  );
}

function took(
  { endedMs, startedMs }: { startedMs: number | null; endedMs: number | null },
  nowMs: number,
): string {
  return startedMs === null ? '' : span(Math.max(0, (endedMs ?? nowMs) - startedMs));
}

function iconOf(state: string): ReactNode {
  switch (state) {
    case 'done':
      return <CheckCircleIcon className="icon-good" aria-label="Done" />;
    case 'failed':
      return <ExclamationCircleIcon className="icon-error" aria-label="Failed" />;
    case 'running':
      return <Spinner size="sm" aria-label="Runs" />;
    default:
      return <ClockIcon className="subtle" aria-label={state} />;
  }
}
