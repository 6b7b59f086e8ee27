/**
 * XML for definitions that may come from anyone: a guest, a peer, an older self.
 *
 * A document is parsed whole or refused (`usage_invalid`): longer than 1 MiB, too deep, too many nodes, any document
 * type or entity declaration, anything that is not well-formed. What is not touched is written back as it was read.
 * What is written is escaped by the library and checked to be well-formed, so that no value can become markup.
 */
import { DOMParser, XMLSerializer } from '@xmldom/xmldom';
import type { Document, Element } from '@xmldom/xmldom';
import { Failure } from '#/lib/failure.ts';
import { refuse, scanXml } from './xml-scan.ts';

export type { Document as XmlDocument, Element as XmlElement };

const ELEMENT_NODE = 1;

/** The root element of a document. `what` names it in errors: "the definition of domain web". */
export function parseXml(text: string, what: string, rootName?: string): Element {
  scanXml(text, what);
  let document: Document;
  try {
    const onError = (level: string, message: string): void => {
      throw new Error(`${level}: ${message}`);
    };
    document = new DOMParser({ onError, locator: false }).parseFromString(text, 'text/xml');
  } catch (error) {
    throw refuse(what, 'it is not well-formed', error);
  }
  const root = document.documentElement;
  if (root === null || document.doctype !== null) throw refuse(what, 'it has no element, or a document type');
  if (rootName !== undefined && root.nodeName !== rootName) {
    throw refuse(what, `its element is <${root.nodeName}>, not <${rootName}>`);
  }
  return root;
}

/** A new document's root. */
export function createXml(rootName: string): Element {
  const document = new DOMParser({ locator: false }).parseFromString(`<${rootName}/>`, 'text/xml');
  const root = document.documentElement;
  if (root === null) throw refuse(rootName, 'it is not a name');
  return root;
}

/** The element and all in it as text. Throws `usage_invalid` for content that XML cannot carry. */
export function serializeXml(element: Element): string {
  try {
    return new XMLSerializer().serializeToString(element, { requireWellFormed: true });
  } catch (error) {
    throw new Failure('usage_invalid', `write <${element.nodeName}> as XML`, { cause: error });
  }
}

/** The child elements, all or those of one name, in their order. */
export function childrenOf(element: Element, name?: string): Element[] {
  const children: Element[] = [];
  for (let node = element.firstChild; node !== null; node = node.nextSibling) {
    if (node.nodeType !== ELEMENT_NODE) continue;
    if (name === undefined || node.nodeName === name) children.push(node as Element);
  }
  return children;
}

/** The first element down a path of names: `childOf(domain, 'os', 'type')`. */
export function childOf(element: Element, ...path: string[]): Element | undefined {
  let found: Element | undefined = element;
  for (const name of path) {
    if (found === undefined) return undefined;
    found = childrenOf(found, name)[0];
  }
  return found;
}

/** The attribute's value, `undefined` when it is not there. */
export function attributeOf(element: Element | undefined, name: string): string | undefined {
  return element?.getAttribute(name) ?? undefined;
}

/** Sets attributes; one that is `undefined` is removed. */
export function setAttributes(element: Element, attributes: Record<string, string | undefined>): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined) element.removeAttribute(name);
    else element.setAttribute(name, carryable(value));
  }
}

/** The text of the element without the blanks around it; of a child when a path is given. */
export function textOf(element: Element, ...path: string[]): string | undefined {
  return childOf(element, ...path)?.textContent?.trim();
}

/** Replaces everything in the element by a text. */
export function setText(element: Element, text: string): void {
  element.textContent = carryable(text);
}

/** Adds a child element at the end and returns it. */
export function appendElement(
  parent: Element,
  name: string,
  attributes: Record<string, string | undefined> = {},
  text?: string,
): Element {
  const child = documentOf(parent).createElement(name);
  setAttributes(child, attributes);
  if (text !== undefined) setText(child, text);
  parent.appendChild(child);
  return child;
}

/** The child of that name, made when it is not there. */
export function ensureElement(parent: Element, name: string): Element {
  return childOf(parent, name) ?? appendElement(parent, name);
}

/** Takes the element out of its parent. */
export function removeElement(element: Element): void {
  element.parentNode?.removeChild(element);
}

/** Adds a copy of an element, which may be of another document, at the end of `parent`. */
export function appendCopy(parent: Element, element: Element): Element {
  const copy = documentOf(parent).importNode(element, true);
  parent.appendChild(copy);
  return copy;
}

function documentOf(element: Element): Document {
  const document = element.ownerDocument;
  if (document === null)
    throw new Failure('usage_invalid', `change <${element.nodeName}>, which has no document`);
  return document;
}

/** Refuses characters that XML 1.0 has no way to write. */
function carryable(value: string): string {
  if (isCarryable(value)) return value;
  throw new Failure('usage_invalid', `write ${JSON.stringify(value.slice(0, 80))} as XML`);
}

function isCarryable(value: string): boolean {
  if (!value.isWellFormed()) return false;
  for (let i = 0; i < value.length; i++) {
    const unit = value.charCodeAt(i);
    if (unit < 0x20 && unit !== 0x09 && unit !== 0x0a && unit !== 0x0d) return false;
    if (unit >= 0xfffe) return false;
  }
  return true;
}
