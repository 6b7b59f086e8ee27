import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import type { PointEntry } from './log-record.ts';
import { applyRecord, EMPTY_STATE } from './log-state.ts';

const POINT: PointEntry = {
  sequence: 1,
  stamp: '0123456789abcdef0123456789abcdef',
  momentMs: 1,
  acknowledgedMs: 2,
  epoch: 1,
  consistency: 'crash',
  disks: [],
  attachments: [],
  bytes: 0,
};

test('a point that was begun before the epoch rose is refused when it is to be recorded', () => {
  const raised = applyRecord(EMPTY_STATE, { kind: 'epoch', epoch: 2 });
  assert.throws(
    () => applyRecord(raised, { kind: 'point', point: POINT, deltas: [] }),
    (error) => hasCode(error, 'epoch_stale'),
  );
  const next = applyRecord(raised, { kind: 'point', point: { ...POINT, epoch: 2 }, deltas: [] });
  assert.equal(next.head, 1);
});
