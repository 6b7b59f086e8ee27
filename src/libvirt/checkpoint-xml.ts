/** The definition of a checkpoint: which disks get a bitmap that records what changes from then on. */
import { Failure } from '#/lib/failure.ts';
import {
  appendElement,
  attributeOf,
  childOf,
  childrenOf,
  createXml,
  parseXml,
  serializeXml,
  textOf,
} from './xml.ts';

export type CheckpointDisk = {
  target: string;
  /** The bitmap's name in the image; the checkpoint's when absent. */
  bitmap?: string;
};

export type CheckpointDefinition = {
  name: string;
  description?: string;
  disks: readonly CheckpointDisk[];
  /** Targets of the domain's other disks: libvirt tracks all it is not told. */
  excluded?: readonly string[];
};

export function buildCheckpointXml(checkpoint: CheckpointDefinition): string {
  return serializeXml(build(checkpoint));
}

/** For the flag `redefine`: a record for bitmaps that exist already, made at that time, after that parent. */
export function buildRedefinedCheckpointXml(
  checkpoint: CheckpointDefinition,
  record: { createdAtSeconds: number; parent?: string },
): string {
  const root = build(checkpoint);
  appendElement(root, 'creationTime', {}, String(record.createdAtSeconds));
  if (record.parent !== undefined) appendElement(appendElement(root, 'parent'), 'name', {}, record.parent);
  return serializeXml(root);
}

export type CheckpointRecord = {
  name: string;
  description: string | undefined;
  parent: string | undefined;
  createdAtSeconds: number;
  /** `changedBytes` is told for a running domain when asked with the flag `bytes`. */
  disks: { target: string; bitmap: string; changedBytes: number | undefined }[];
};

/** What libvirt tells of a checkpoint; disks without a bitmap are left out. */
export function readCheckpointXml(xml: string): CheckpointRecord {
  const root = parseXml(xml, 'the definition of a checkpoint', 'domaincheckpoint');
  const name = textOf(root, 'name');
  if (name === undefined || name === '')
    throw new Failure('usage_invalid', 'read a checkpoint: it has no name');
  const disks = childOf(root, 'disks');
  const tracked = disks === undefined ? [] : childrenOf(disks, 'disk').filter((d) => isTracked(d));
  return {
    name,
    description: textOf(root, 'description'),
    parent: textOf(root, 'parent', 'name'),
    createdAtSeconds: Number(textOf(root, 'creationTime') ?? 0),
    disks: tracked.map((disk) => ({
      target: attributeOf(disk, 'name') ?? '',
      bitmap: attributeOf(disk, 'bitmap') ?? name,
      changedBytes: numberOf(attributeOf(disk, 'size')),
    })),
  };
}

function build(checkpoint: CheckpointDefinition): ReturnType<typeof createXml> {
  if (checkpoint.disks.length === 0) throw new Failure('usage_invalid', 'define a checkpoint of no disk');
  const root = createXml('domaincheckpoint');
  appendElement(root, 'name', {}, checkpoint.name);
  if (checkpoint.description !== undefined) appendElement(root, 'description', {}, checkpoint.description);
  const disks = appendElement(root, 'disks');
  for (const { target, bitmap } of checkpoint.disks) {
    appendElement(disks, 'disk', { name: target, checkpoint: 'bitmap', bitmap });
  }
  for (const target of checkpoint.excluded ?? [])
    appendElement(disks, 'disk', { name: target, checkpoint: 'no' });
  return root;
}

function isTracked(disk: Parameters<typeof attributeOf>[0]): boolean {
  return attributeOf(disk, 'checkpoint') !== 'no';
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined || !/^[0-9]{1,15}$/.test(text) ? undefined : Number(text);
}
