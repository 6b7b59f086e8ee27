/** Runs in words and colours. */
import type { LabelProps } from '@patternfly/react-core';
import type { Run, RunKind } from '#/api/types.ts';

export const RUN_WORDS: Record<RunKind, string> = {
  test: 'Test',
  migration: 'Planned migration',
  disaster: 'Disaster recovery',
  failback: 'Failback',
};

const LOOKS: Record<Run['state'], LabelProps['status']> = {
  running: 'info',
  ready: 'success',
  cleaning: 'info',
  done: 'success',
  failed: 'danger',
  cancelled: 'warning',
  cleaned: undefined,
};

export function runLook(state: Run['state']): { status?: NonNullable<LabelProps['status']> } {
  const status = LOOKS[state];
  return status === undefined ? {} : { status };
}
