/**
 * The mark in the definition of a VM that was paused to make room: by which tasks. It goes where the VM goes, and tells
 * ours from a pause that a person made. One element without children. Pure.
 */
import { attributeOf, createXml, parseXml, serializeXml, setAttributes } from '#/libvirt/xml.ts';

export const SUSPEND_NAMESPACE = 'urn:antipode:suspend:1';
/** The prefix that libvirt is told to write. */
export const SUSPEND_PREFIX = 'antipode-suspend';

/** The text that libvirt's call for metadata takes; undefined takes the mark away. */
export function suspendMarkText(taskIds: readonly string[]): string | undefined {
  if (taskIds.length === 0) return undefined;
  const element = createXml('suspended');
  setAttributes(element, { by: taskIds.join(' ') });
  return serializeXml(element);
}

/** The mark as libvirt answers when asked for the metadata of our namespace. */
export function suspendersOf(metadata: string): string[] {
  const by = attributeOf(parseXml(metadata, 'the suspend mark of a VM'), 'by') ?? '';
  return by.split(' ').filter((id) => id !== '');
}
