/**
 * The epoch mark in a VM's definition: which site may run it, from which epoch on, and whether this copy has yielded
 * (docs/fencing.md, section 2).
 *
 * It is one element without children, so that libvirt writes it on one line: the start hook reads it without a parser
 * of XML. It keeps the signature, so that a definition alone is evidence. Pure.
 */
import type { EpochClaim } from '#/lib/epoch-claim.ts';
import {
  attributeOf,
  childOf,
  childrenOf,
  createXml,
  parseXml,
  serializeXml,
  setAttributes,
} from '#/libvirt/xml.ts';
import type { XmlElement } from '#/libvirt/xml.ts';

export const EPOCH_NAMESPACE = 'urn:antipode:epoch:1';
/** The prefix that libvirt is told to write. */
export const EPOCH_PREFIX = 'antipode-epoch';

/** The copy has yielded to a claim of another site. */
export type Yielded = {
  epoch: number;
  siteId: string;
  atMs: number;
  /** Whether it was running and was paused then, and may be resumed when it is released. */
  wasPaused: boolean;
  /** Whether its autostart was on, which a release turns on again. */
  hadAutostart: boolean;
};

export type EpochMark = { claim: EpochClaim | undefined; yielded: Yielded | undefined };

/** An element of its own, to be copied into a definition's metadata. */
export function epochMark(mark: EpochMark): XmlElement {
  return filled(parseXml(`<claim xmlns="${EPOCH_NAMESPACE}"/>`, 'an epoch mark'), mark);
}

/** The text that libvirt's call for metadata takes: it adds namespace and prefix itself. */
export function epochMarkText(mark: EpochMark): string {
  return serializeXml(filled(createXml('claim'), mark));
}

function filled(element: XmlElement, { claim, yielded }: EpochMark): XmlElement {
  setAttributes(element, {
    epoch: String(claim?.epoch ?? 0),
    site: claim?.site_id,
    vm: claim?.vm_uuid,
    issued: claim === undefined ? undefined : String(claim.issued_ms),
    signature: claim?.signature,
    'yielded-to-epoch': yielded === undefined ? undefined : String(yielded.epoch),
    'yielded-to-site': yielded?.siteId,
    'yielded-at': yielded === undefined ? undefined : String(yielded.atMs),
    'yielded-paused': yielded === undefined ? undefined : yesNo(yielded.wasPaused),
    'yielded-autostart': yielded === undefined ? undefined : yesNo(yielded.hadAutostart),
  });
  return element;
}

function yesNo(isSo: boolean): string {
  return isSo ? 'yes' : 'no';
}

/** The mark in a definition; undefined when there is none. */
export function epochMarkIn(definition: string): EpochMark | undefined {
  const metadata = childOf(parseXml(definition, 'the definition of a VM', 'domain'), 'metadata');
  if (metadata === undefined) return undefined;
  const element = childrenOf(metadata).find((found) => found.namespaceURI === EPOCH_NAMESPACE);
  return element === undefined ? undefined : readMark(element);
}

/** The mark as libvirt answers when asked for the metadata of our namespace. */
export function epochMarkOf(metadata: string): EpochMark {
  return readMark(parseXml(metadata, 'the epoch mark of a VM'));
}

function readMark(element: XmlElement): EpochMark {
  return { claim: claimOf(element), yielded: yieldedOf(element) };
}

/** What is not whole counts as not there; nothing is believed of a mark beyond its signature. */
function claimOf(element: XmlElement): EpochClaim | undefined {
  const claim = {
    vm_uuid: attributeOf(element, 'vm') ?? '',
    epoch: Number(attributeOf(element, 'epoch')),
    site_id: attributeOf(element, 'site') ?? '',
    issued_ms: Number(attributeOf(element, 'issued')),
    signature: attributeOf(element, 'signature') ?? '',
  };
  const isWhole =
    Number.isSafeInteger(claim.epoch) &&
    claim.epoch > 0 &&
    Number.isSafeInteger(claim.issued_ms) &&
    claim.site_id !== '' &&
    claim.vm_uuid !== '';
  return isWhole ? claim : undefined;
}

function yieldedOf(element: XmlElement): Yielded | undefined {
  const siteId = attributeOf(element, 'yielded-to-site');
  const yielded = {
    epoch: Number(attributeOf(element, 'yielded-to-epoch')),
    atMs: Number(attributeOf(element, 'yielded-at')),
    wasPaused: attributeOf(element, 'yielded-paused') === 'yes',
    hadAutostart: attributeOf(element, 'yielded-autostart') === 'yes',
  };
  if (siteId === undefined || !Number.isSafeInteger(yielded.epoch) || !Number.isSafeInteger(yielded.atMs)) {
    return undefined;
  }
  return { ...yielded, siteId };
}
