/**
 * Replies and events of a libvirt 9.0 daemon, cut off anywhere and with any bit flipped: the call ends with a value or
 * with a Failure of a name that fits, at once.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { decodeBlockJob } from './block-device.ts';
import { decodeEvent } from './events.ts';
import { FakeDaemon, fromHex, ManualClock } from './fake-daemon.ts';
import { LIST_MAX, STATS_PARAMETERS_MAX } from './limits.ts';
import { Remote } from './remote.ts';
import { decodeCheckpointRef, decodeDomainRef, decodeTypedParameters } from './remote-types.ts';
import type { XdrReader } from './xdr.ts';

const DOMAIN = '00000004 74657374 6695eb01f6a4830479aa97f2502e193f 00000001';

/** Serial 1 in every one, as the first call of a connection has. */
const REPLIES: readonly {
  name: string;
  procedure: number;
  bytes: string;
  decode: (r: XdrReader) => unknown;
}[] = [
  {
    name: 'a host name',
    procedure: 59,
    bytes: '00000024 20008086 00000001 0000003b 00000001 00000001 00000000 00000002 766d0000',
    decode: (r) => r.string(),
  },
  {
    name: 'a list of domains',
    procedure: 273,
    bytes: `00000040 20008086 00000001 00000111 00000001 00000001 00000000 00000001 ${DOMAIN} 00000001`,
    decode: (r) => [r.array(LIST_MAX, decodeDomainRef), r.uint()],
  },
  {
    name: 'a list of checkpoints',
    procedure: 413,
    bytes: `00000048 20008086 00000001 0000019d 00000001 00000001 00000000 00000001 00000001 63000000 ${DOMAIN} 00000001`,
    decode: (r) => [r.array(LIST_MAX, decodeCheckpointRef), r.int()],
  },
  {
    name: 'statistics',
    procedure: 344,
    bytes: `00000070 20008086 00000001 00000158 00000001 00000001 00000000 00000001 ${DOMAIN} 00000002
      0000000b 73746174 652e7374 61746500 00000001 00000003
      0000000c 73746174 652e7265 61736f6e 00000001 00000001`,
    decode: (r) =>
      r.array(LIST_MAX, (e) => [decodeDomainRef(e), decodeTypedParameters(e, STATS_PARAMETERS_MAX)]),
  },
  {
    name: 'a block job',
    procedure: 238,
    bytes: `0000003c 20008086 00000001 000000ee 00000001 00000001 00000000
      00000001 00000001 00000000 00000000 00000000 00010000 00000000 00100000`,
    decode: decodeBlockJob,
  },
  {
    name: 'an error',
    procedure: 23,
    bytes: `00000070 20008086 00000001 00000017 00000001 00000001 00000001
      0000002a 0000000c 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000002 00000000
      00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000000 00000000 ffffffff ffffffff 00000000`,
    decode: decodeDomainRef,
  },
];

/** What a broken reply may end in: the daemon's word, a broken frame or content, the end of the connection. */
const NAMED = new Set(['libvirt_error', 'protocol_corrupt', 'unreachable']);

/** Makes the call, sends these bytes as its answer, hangs up, and says how the call ended. */
async function outcome(
  reply: (typeof REPLIES)[number],
  bytes: Uint8Array,
): Promise<{ value: unknown } | { failure: Failure }> {
  const daemon = new FakeDaemon({ clock: new ManualClock() });
  const request = { what: `ask for ${reply.name}`, procedure: reply.procedure, decode: reply.decode };
  const call = new Remote(daemon.connection).call(request);
  const settled = call.then(
    (value) => ({ value }),
    (error: unknown) => {
      assert(error instanceof Failure, `${String(error)} is no Failure`);
      return { failure: error };
    },
  );
  await daemon.packet(0);
  daemon.send(bytes);
  daemon.hangUp();
  return await settled;
}

for (const reply of REPLIES) {
  const bytes = fromHex(reply.bytes);

  test(`${reply.name} arrives whole`, async () => {
    assert.equal(new DataView(bytes.buffer).getUint32(0), bytes.length);
    const ended = await outcome(reply, bytes);
    if (reply.name === 'an error') assert('failure' in ended && ended.failure.code === 'libvirt_error');
    else assert('value' in ended && ended.value !== undefined, JSON.stringify(ended));
  });

  test(`${reply.name} that is cut off anywhere ends the call as unreachable`, async () => {
    for (let length = 0; length < bytes.length; length++) {
      const ended = await outcome(reply, bytes.subarray(0, length));
      assert(
        'failure' in ended && ended.failure.code === 'unreachable',
        `${length} bytes: ${JSON.stringify(ended)}`,
      );
    }
  });

  test(`${reply.name} whose content is cut off anywhere ends the call as corrupt`, async () => {
    for (let length = 28; length < bytes.length; length++) {
      const cut = bytes.slice(0, length);
      new DataView(cut.buffer).setUint32(0, length);
      const ended = await outcome(reply, cut);
      assert(
        'failure' in ended && ended.failure.code === 'protocol_corrupt',
        `${length}: ${JSON.stringify(ended)}`,
      );
    }
  });

  test(`${reply.name} with any bit flipped ends in a value or a named failure`, async () => {
    const tally = { values: 0, failures: 0 };
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = bytes.slice();
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const ended = await outcome(reply, flipped);
      if ('failure' in ended) assert(NAMED.has(ended.failure.code), `bit ${bit}: ${ended.failure.message}`);
      tally['failure' in ended ? 'failures' : 'values']++;
    }
    assert(tally.failures > 100, JSON.stringify(tally));
  });
}

const EVENT = fromHex(`00000000 ${DOMAIN} 00000003 00000000`);

test('an event reads as the daemon sent it', () => {
  assert.deepEqual(decodeEvent(318, EVENT), {
    callback: 0,
    event: {
      kind: 'lifecycle',
      domain: { name: 'test', uuid: '6695eb01-f6a4-8304-79aa-97f2502e193f', id: 1 },
      change: 'suspended',
      reason: 'paused',
    },
  });
});

test('an event that is cut off or has a bit flipped reads as an event or as corrupt', () => {
  const damaged = Array.from({ length: EVENT.length }, (_, length) => EVENT.subarray(0, length));
  for (let bit = 0; bit < EVENT.length * 8; bit++) {
    const flipped = EVENT.slice();
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    damaged.push(flipped);
  }
  for (const bytes of damaged) {
    try {
      assert.equal(decodeEvent(318, bytes)?.event.kind, 'lifecycle');
    } catch (error) {
      assert(error instanceof Failure && error.code === 'protocol_corrupt', String(error));
    }
  }
});

test('an event of a kind that is not known here is none', () => {
  assert.equal(decodeEvent(423, EVENT), undefined);
});
