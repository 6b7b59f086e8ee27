/** Definitions as libvirt gives them, read once as long as they do not change: cycles and reports ask every second. */
import { readDomainXml } from '#/libvirt/domain-xml.ts';
import { remembered } from '#/lib/remembered.ts';
import { markIn } from '#/recovery/recovery-mark.ts';

export const readDefinition = remembered(readDomainXml);
export const readMark = remembered(markIn);
