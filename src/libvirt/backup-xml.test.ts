/** Backups and checkpoints as libvirt wants them written; that libvirt takes them is shown in `libvirt-qemu.test.ts`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hasCode } from '#/lib/failure.ts';
import { buildPullBackupXml, readBackupXml } from './backup-xml.ts';
import { buildCheckpointXml, buildRedefinedCheckpointXml, readCheckpointXml } from './checkpoint-xml.ts';

test('a pull backup names its socket, its disks and what it leaves out', () => {
  const xml = buildPullBackupXml({
    socketPath: '/run/a&b.sock',
    disks: [
      { target: 'vda', exportName: 'vda', scratchPath: '/s/vda' },
      {
        target: 'vdb',
        exportName: 'b',
        exportBitmap: 'changed',
        scratchPath: '/s/vdb',
        incremental: 'point-1',
      },
    ],
    excluded: ['vdc'],
  });
  assert.equal(
    xml,
    '<domainbackup mode="pull"><server transport="unix" socket="/run/a&amp;b.sock"/><disks>' +
      '<disk name="vda" backup="yes" type="file" backupmode="full" exportname="vda">' +
      '<driver type="qcow2"/><scratch file="/s/vda"/></disk>' +
      '<disk name="vdb" backup="yes" type="file" backupmode="incremental" incremental="point-1" exportname="b" ' +
      'exportbitmap="changed"><driver type="qcow2"/><scratch file="/s/vdb"/></disk>' +
      '<disk name="vdc" backup="no"/></disks></domainbackup>',
  );
  assert.deepEqual(readBackupXml(xml), {
    mode: 'pull',
    socketPath: '/run/a&b.sock',
    disks: [
      { target: 'vda', exportName: 'vda', scratchPath: '/s/vda', incremental: undefined },
      { target: 'vdb', exportName: 'b', scratchPath: '/s/vdb', incremental: 'point-1' },
    ],
  });
});

test('a checkpoint names its disks and what it leaves out', () => {
  const xml = buildCheckpointXml({ name: 'p', disks: [{ target: 'vda', bitmap: 'b' }], excluded: ['vdb'] });
  assert.equal(
    xml,
    '<domaincheckpoint><name>p</name><disks><disk name="vda" checkpoint="bitmap" bitmap="b"/>' +
      '<disk name="vdb" checkpoint="no"/></disks></domaincheckpoint>',
  );
});

test('a checkpoint that is made anew for its bitmaps carries its time and parent', () => {
  const definition = { name: 'p', description: 'd', disks: [{ target: 'vda' }] };
  const xml = buildRedefinedCheckpointXml(definition, { createdAtSeconds: 12, parent: 'o' });
  assert.deepEqual(readCheckpointXml(xml), {
    name: 'p',
    description: 'd',
    parent: 'o',
    createdAtSeconds: 12,
    disks: [{ target: 'vda', bitmap: 'p', changedBytes: undefined }],
  });
});

test('nothing is made of no disk, and nothing is read from another document', () => {
  const invalid = (error: unknown): boolean => hasCode(error, 'usage_invalid');
  assert.throws(() => buildPullBackupXml({ socketPath: '/s', disks: [] }), invalid);
  assert.throws(() => buildCheckpointXml({ name: 'p', disks: [] }), invalid);
  assert.throws(() => readCheckpointXml('<domaincheckpoint/>'), invalid);
  assert.throws(() => readCheckpointXml('<domain/>'), invalid);
  assert.throws(() => readBackupXml('<domain/>'), invalid);
});
