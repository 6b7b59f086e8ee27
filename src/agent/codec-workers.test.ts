/** The codec on threads gives what it gives on the caller's, from shared memory, whatever compresses. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { DIGEST_KEY } from '#/disk/digest-fixture.ts';
import { encodeGroup, type GroupRequest } from '#/replication/block-codec.ts';
import { GROUP_BLOCKS, GROUP_BYTES } from '#/replication/limits.ts';
import { CodecWorkers } from './codec-workers.ts';

test('groups encoded on threads are those encoded here', async () => {
  await using codec = new CodecWorkers({ threads: 2, queueMax: 8 });
  const requests: GroupRequest[] = [0, 1, 2].map((disk) => {
    const bytes = codec.allocate();
    if (disk > 0) bytes.fill(7);
    if (disk < 2) bytes.set(randomBytes(GROUP_BYTES / 2));
    const known = new Uint8Array(GROUP_BLOCKS * 16);
    return {
      digestKey: DIGEST_KEY,
      disk,
      first: 0,
      known,
      read: [{ first: 0, count: GROUP_BLOCKS }],
      bytes,
      zero: [],
      mayBeLong: disk === 0,
    };
  });
  const changes = await Promise.all(requests.map((request) => codec.encode(request)));
  for (const [index, request] of requests.entries()) {
    const expected = encodeGroup(request);
    assert.deepEqual(changes[index], expected);
  }
});

test('memory is lent again once it is free, and not while somebody may look at it', async () => {
  await using codec = new CodecWorkers({ threads: 1, queueMax: 8 });
  const first = codec.allocate();
  const second = codec.allocate();
  assert.notEqual(first.byteOffset, second.byteOffset);
  codec.free(first, true);
  const again = codec.allocate();
  assert.equal(again.byteOffset, first.byteOffset);
  codec.free(second, false);
  const third = codec.allocate();
  assert(third.buffer !== second.buffer, 'nothing of it is lent again');
  codec.free(again, true);
  assert(codec.allocate().buffer !== second.buffer, 'nor what was lent at the time');
  third.set(randomBytes(GROUP_BYTES));
  const request: GroupRequest = {
    digestKey: DIGEST_KEY,
    disk: 0,
    first: 0,
    known: new Uint8Array(GROUP_BLOCKS * 16),
    read: [{ first: 0, count: GROUP_BLOCKS }],
    bytes: third,
    zero: [],
    mayBeLong: false,
  };
  const { segments } = await codec.encode(request);
  assert(
    segments.every(({ payload }) => payload.buffer === third.buffer),
    'payloads stand where they were read',
  );
});
