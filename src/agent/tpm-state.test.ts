import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { decodeTpmState, encodeTpmState, packTpmState, unpackTpmState } from './tpm-state.ts';

const files = [{ path: 'tpm2/tpm2-00.permall', bytes: Uint8Array.of(1, 2, 3) }];

test('TPM state, byte for byte', () => {
  assert.equal(
    Buffer.from(encodeTpmState([{ path: 'a', bytes: Uint8Array.of(0xca, 0xfe) }])).toString('hex'),
    '41505431000000010001' + '61' + '00000002cafe' + '8f57abbd',
  );
});

test('every prefix and every flipped bit of TPM state is refused', () => {
  const bytes = encodeTpmState(files);
  for (let n = 0; n < bytes.length; n++) assert.throws(() => decodeTpmState(bytes.subarray(0, n)), Failure);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(() => decodeTpmState(damaged), Failure, `bit ${bit}`);
  }
});

test('a path that leads elsewhere is refused', () => {
  for (const path of ['../x', '/etc/passwd', 'a/../../b', '.hidden', 'a/b/c/d', '']) {
    const bytes = encodeTpmState([{ path, bytes: Uint8Array.of(1) }]);
    assert.throws(() => decodeTpmState(bytes), /wrong path/, path);
  }
});

test('a directory packs and unpacks, and one that is not there is nothing', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'antipode-tpm-'));
  try {
    assert.equal(await packTpmState(join(directory, 'none')), undefined);
    await unpackTpmState(encodeTpmState(files), join(directory, 'a'));
    assert.deepEqual([...(await readFile(join(directory, 'a/tpm2/tpm2-00.permall')))], [1, 2, 3]);
    const packed = await packTpmState(join(directory, 'a'));
    assert.deepEqual(packed, encodeTpmState(files));
  } finally {
    await rm(directory, { recursive: true });
  }
});
