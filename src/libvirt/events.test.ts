/** Every kind of event, in bytes laid out by hand as `remote_protocol.x` says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { decodeEvent, EVENT_NUMBERS } from './events.ts';
import { fromHex } from './fake-daemon.ts';
import { Procedure } from './procedures.ts';

const DOMAIN = '00000004 74657374 6695eb01f6a4830479aa97f2502e193f 00000001';
const domain = { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 };
const VDA = '00000003 76646100';

const EVENTS: readonly [procedure: number, bytes: string, event: object][] = [
  [
    Procedure.eventLifecycle,
    '00000005 00000002',
    { kind: 'lifecycle', change: 'stopped', reason: 'crashed' },
  ],
  [
    Procedure.eventLifecycle,
    '00000003 00000002',
    { kind: 'lifecycle', change: 'suspended', reason: 'io-error' },
  ],
  [
    Procedure.eventLifecycle,
    '00000063 00000001',
    { kind: 'lifecycle', change: 'unknown', reason: 'unknown' },
  ],
  [Procedure.eventReboot, '', { kind: 'reboot' }],
  [
    Procedure.eventIoErrorReason,
    `00000002 2f610000 ${VDA} 00000001 00000006 656e6f73 70630000`,
    { kind: 'io-error', path: '/a', deviceAlias: 'vda', action: 'pause', reason: 'enospc' },
  ],
  [
    Procedure.eventBlockJob2,
    `${VDA} 00000005 00000001`,
    { kind: 'block-job', target: 'vda', job: 'backup', status: 'failed' },
  ],
  [
    Procedure.eventJobCompleted,
    '00000001 00000009 6f706572 6174696f 6e000000 00000001 00000009',
    { kind: 'job-completed', parameters: new Map([['operation', 9]]) },
  ],
  [Procedure.eventAgentLifecycle, '00000001 00000002', { kind: 'agent', state: 'connected', reason: 2 }],
  [Procedure.eventDeviceAdded, VDA, { kind: 'device-added', deviceAlias: 'vda' }],
  [Procedure.eventDeviceRemoved, VDA, { kind: 'device-removed', deviceAlias: 'vda' }],
  [
    Procedure.eventBlockThreshold,
    `${VDA} 00000000 00000000 00001000 00000000 00000200`,
    { kind: 'block-threshold', device: 'vda', path: undefined, thresholdBytes: 4096, excessBytes: 512 },
  ],
];

for (const [procedure, bytes, event] of EVENTS) {
  test(`${JSON.stringify(event)} is read from its bytes, and from no part of them`, () => {
    const payload = fromHex(`00000007 ${DOMAIN} ${bytes}`);
    assert.deepEqual(decodeEvent(procedure, payload), { callback: 7, event: { ...event, domain } });
    for (let length = 0; length < payload.length; length++) {
      assert.throws(
        () => decodeEvent(procedure, payload.subarray(0, length)),
        (error) => hasCode(error, 'protocol_corrupt'),
      );
    }
  });
}

test('every kind has a number of its own', () => {
  const numbers = Object.values(EVENT_NUMBERS);
  assert.equal(new Set(numbers).size, numbers.length);
});
