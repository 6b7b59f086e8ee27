import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OrderBook } from './order-book.ts';

test('a bookmark keeps its point until its end, and a replica that no orders speak of keeps everything', () => {
  const book = new OrderBook();
  assert.equal(book.retention('r', 0), undefined);
  const bookmark = { name: 'before', moment_ms: 1 };
  book.take({
    revision: 1,
    site_id: 'east',
    trust: [],
    replicas: [
      {
        replica_id: 'r',
        vm_uuid: '7a2c9a52-6d1e-4a70-9c53-2b8a5e6f1001',
        vm_name: 'ledger',
        source_site_id: 'west',
        epoch: 1,
        retention: { keep_all_ms: 5, tiers: [{ every_ms: 2, for_ms: 8 }] },
        bookmarks: [
          { ...bookmark, sequence: 3, until_ms: null },
          { ...bookmark, sequence: 4, until_ms: 100 },
        ],
      },
    ],
    tasks: [],
  });
  assert.deepEqual(book.retention('r', 99), {
    keepAllMs: 5,
    tiers: [{ everyMs: 2, forMs: 8 }],
    kept: [3, 4],
  });
  assert.deepEqual(book.retention('r', 100)?.kept, [3]);
});
