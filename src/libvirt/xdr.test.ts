/** XDR against bytes written by hand from RFC 4506, and against everything that is not XDR. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '#/lib/failure.ts';
import { fromHex } from './fake-daemon.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const GOLDEN: readonly [name: string, write: (w: XdrWriter) => unknown, bytes: string][] = [
  ['int', (w) => w.int(-2), 'fffffffe'],
  ['unsigned', (w) => w.uint(0xfedcba98), 'fedcba98'],
  ['bool', (w) => w.bool(true).bool(false), '00000001 00000000'],
  ['unsigned hyper', (w) => w.uhyper(2 ** 53 - 1), '001fffff ffffffff'],
  ['hyper', (w) => w.hyper(-1), 'ffffffff ffffffff'],
  ['double', (w) => w.double(1.5), '3ff80000 00000000'],
  ['opaque', (w) => w.fixed(Uint8Array.of(1, 2, 3, 4, 5)), '01020304 05000000'],
  ['string', (w) => w.string('naïve'), '00000006 6e61c3af 76650000'],
  ['empty string', (w) => w.string(''), '00000000'],
  [
    'optional string',
    (w) => w.optionalString('vda').optionalString(undefined),
    '00000001 00000003 76646100 00000000',
  ],
];

for (const [name, write, bytes] of GOLDEN) {
  test(`${name} is written as RFC 4506 says`, () => {
    const writer = new XdrWriter();
    write(writer);
    assert.equal(hex(writer.bytes()), bytes.replaceAll(' ', ''));
  });
}

test('what is written is read back', () => {
  const writer = new XdrWriter()
    .int(-7)
    .uint(7)
    .bool(true)
    .uhyper(5_000_000_000)
    .hyper(-5_000_000_000)
    .double(0.1);
  writer.string('disk').optionalString(undefined).fixed(Uint8Array.of(9, 8)).uint(2).int(1).int(2);
  const reader = new XdrReader(writer.bytes());
  assert.deepEqual([reader.int(), reader.uint(), reader.bool()], [-7, 7, true]);
  assert.deepEqual([reader.uhyper(), reader.hyper(), reader.double()], [5_000_000_000, -5_000_000_000, 0.1]);
  assert.equal(reader.string(), 'disk');
  assert.equal(
    reader.optional((r) => r.string()),
    undefined,
  );
  assert.deepEqual([...reader.fixed(2)], [9, 8]);
  assert.deepEqual(
    reader.array(2, (r) => r.int()),
    [1, 2],
  );
  reader.end();
});

test('a writer grows beyond its first buffer and keeps what it has', () => {
  const long = 'x'.repeat(10_000);
  const reader = new XdrReader(new XdrWriter().int(1).string(long).int(2).bytes());
  assert.deepEqual([reader.int(), reader.string(), reader.int()], [1, long, 2]);
});

const CORRUPT: readonly [name: string, bytes: string, read: (r: XdrReader) => unknown][] = [
  ['a number that is cut off', '000000', (r) => r.int()],
  ['a boolean of 2', '00000002', (r) => r.bool()],
  ['padding that is not zero', '00000001 61000001', (r) => r.string()],
  ['a string longer than what is there', '00000005 61626364', (r) => r.string()],
  ['a string of 4 GiB', 'ffffffff 61626364', (r) => r.string()],
  ['a string that is not UTF-8', '00000001 ff000000', (r) => r.string()],
  ['a string with a NUL', '00000002 61000000', (r) => r.string()],
  ['a count of 2^63', '80000000 00000000', (r) => r.uhyper()],
  ['an array beyond its bound', '00000003 00000001 00000001 00000001', (r) => r.array(2, (e) => e.int())],
  [
    'an array of 4 billion elements that are not there',
    'ffffffff',
    (r) => r.array(0xffff_ffff, (e) => e.int()),
  ],
  ['bytes that are left over', '00000001 00000002', (r) => [r.int(), r.end()]],
];

for (const [name, bytes, read] of CORRUPT) {
  test(`${name} is refused`, () => {
    assert.throws(() => read(new XdrReader(fromHex(bytes))), isFailure('protocol_corrupt'));
  });
}

test('what the protocol cannot carry is refused before it is sent', () => {
  const unfit = isFailure('usage_invalid');
  assert.throws(() => new XdrWriter().int(2 ** 31), unfit);
  assert.throws(() => new XdrWriter().uint(-1), unfit);
  assert.throws(() => new XdrWriter().uhyper(2 ** 53), unfit);
  assert.throws(() => new XdrWriter().string('a\0b'), unfit);
  assert.throws(() => new XdrWriter().string('x'.repeat(4_194_305)), unfit);
});

test('an unlimited value is rounded where a statistic may have one', () => {
  assert.equal(new XdrReader(fromHex('ffffffffffffffff')).uhyperRounded(), 2 ** 64);
});

function isFailure(code: string): (error: unknown) => boolean {
  return (error) => error instanceof Failure && error.code === code;
}
