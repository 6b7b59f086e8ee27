import assert from 'node:assert/strict';
import { test } from 'node:test';
import { userIn } from './qemu-user.ts';

const PASSWD = 'root:x:0:0::/root:/bin/sh\nlibvirt-qemu:x:64055:108::/:/none\nme:x:1000:1000::/:/none\n';

test('QEMU runs as whom qemu.conf names, or else as whom the distribution made for it', () => {
  assert.equal(userIn('#user = "root"\n', PASSWD), 64_055);
  assert.equal(userIn('user = "root"\n', PASSWD), 0);
  assert.equal(userIn("  user='me' # ours\nuser_x = 1", PASSWD), 1000);
  assert.equal(userIn('user = "+107"\n', PASSWD), 107);
  assert.equal(userIn('user = "nobody-here"\n', PASSWD), undefined);
  assert.equal(userIn('', 'root:x:0:0::/root:/bin/sh\n'), undefined);
});
