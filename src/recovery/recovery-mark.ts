/**
 * The mark that a recovered VM carries in its definition's metadata: which task made it, from what, and its epoch.
 *
 * It tells our VMs from all others: a VM without the mark of a task is never touched by it. Pure.
 */
import { attributeOf, childOf, childrenOf, parseXml, setAttributes } from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';

export const RECOVERY_NAMESPACE = 'urn:antipode:recovery:1';

export type RecoveryMark = {
  taskId: string;
  replicaId: string;
  sequence: number;
  epoch: number;
  purpose: 'recovery' | 'test';
};

/** An element of its own, to be copied into a definition's metadata. */
export function recoveryMark(mark: RecoveryMark): XmlElement {
  const element = parseXml(`<antipode:recovery xmlns:antipode="${RECOVERY_NAMESPACE}"/>`, 'a recovery mark');
  setAttributes(element, {
    task: mark.taskId,
    replica: mark.replicaId,
    sequence: String(mark.sequence),
    epoch: String(mark.epoch),
    purpose: mark.purpose,
  });
  return element;
}

/** The mark in a definition, or undefined when there is none or it is not whole. */
export function markIn(definition: string): RecoveryMark | undefined {
  const metadata = childOf(parseXml(definition, 'the definition of a VM', 'domain'), 'metadata');
  if (metadata === undefined) return undefined;
  const element = childrenOf(metadata).find((found) => found.namespaceURI === RECOVERY_NAMESPACE);
  if (element === undefined) return undefined;
  const purpose = attributeOf(element, 'purpose');
  const mark = {
    taskId: attributeOf(element, 'task') ?? '',
    replicaId: attributeOf(element, 'replica') ?? '',
    sequence: Number(attributeOf(element, 'sequence')),
    epoch: Number(attributeOf(element, 'epoch')),
  };
  const isWhole =
    mark.taskId !== '' && Number.isSafeInteger(mark.sequence) && Number.isSafeInteger(mark.epoch);
  if (!isWhole || (purpose !== 'recovery' && purpose !== 'test')) return undefined;
  return { ...mark, purpose };
}
