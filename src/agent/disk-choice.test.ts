/** Which disks a cycle takes when disks come and go. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { VmReport } from '#/control/reports.ts';
import { chooseDisks } from './disk-choice.ts';

function vm(disks: Record<string, string | null>): VmReport {
  return {
    uuid: 'u',
    name: 'web',
    state: 'running',
    memory_bytes: 1,
    vcpu_count: 1,
    recovered_by_task: null,
    networks: [],
    refusals: [],
    disks: Object.entries(disks).map(([key, refusal]) => ({
      key,
      bytes: 1,
      format: 'qcow2',
      path: `/${key}`,
      refusal,
    })),
  };
}

const all = { disks: [], added_disks: 'replicate' as const };

test('the first point takes what was ordered, so that a disk that is refused is an error', () => {
  assert.deepEqual(chooseDisks(all, [], vm({ vda: 'raw' })), { disks: [], notices: [] });
  assert.deepEqual(chooseDisks({ ...all, disks: ['vda'] }, [], vm({})).disks, ['vda']);
});

test('an added disk is taken in or reported, as the policy says', () => {
  const now = vm({ vda: null, vdb: null });
  assert.deepEqual(chooseDisks(all, ['vda'], now), { disks: ['vda', 'vdb'], notices: [] });
  const reported = chooseDisks({ ...all, added_disks: 'report' }, ['vda'], now);
  assert.deepEqual(reported.disks, ['vda']);
  assert.match(reported.notices[0]!, /vdb is not replicated/);
  assert.deepEqual(chooseDisks({ ...all, disks: ['vda'] }, ['vda'], now), { disks: ['vda'], notices: [] });
});

test('an added disk that is refused stops nothing', () => {
  const chosen = chooseDisks(all, ['vda'], vm({ vda: null, vdb: 'Disk vdb is raw.' }));
  assert.deepEqual(chosen.disks, ['vda']);
  assert.match(chosen.notices[0]!, /Disk vdb is raw/);
});

test('a detached disk is left out and told of; the last one is not', () => {
  const chosen = chooseDisks(all, ['vda', 'vdb'], vm({ vda: null }));
  assert.deepEqual(chosen.disks, ['vda']);
  assert.match(chosen.notices[0]!, /vdb is detached/);
  assert.deepEqual(chooseDisks(all, ['vda'], vm({})).disks, ['vda']);
});
