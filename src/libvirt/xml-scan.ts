/**
 * A look over an XML text before it is parsed: how deep, how many nodes, and nothing that is declared.
 *
 * A parser builds first and is measured after; this refuses a bomb while it is still text, in one pass over it.
 */
import { Failure } from '#/lib/failure.ts';
import { XML_BYTES_MAX, XML_DEPTH_MAX, XML_NODES_MAX } from './limits.ts';

/** Markup whose inside is not markup: how it begins and how it ends. */
const OPAQUE: readonly (readonly [string, string])[] = [
  ['<!--', '-->'],
  ['<![CDATA[', ']]>'],
  ['<?', '?>'],
  ['</', '>'],
];

/** Throws `usage_invalid` for a text that is too long, too deep, too full, cut off, or declares a type or entity. */
export function scanXml(text: string, what: string): void {
  if (text.length > XML_BYTES_MAX || Buffer.byteLength(text) > XML_BYTES_MAX) {
    throw refuse(what, `it is longer than ${XML_BYTES_MAX} bytes`);
  }
  let depth = 0;
  let nodes = 0;
  for (let at = text.indexOf('<'); at >= 0; at = text.indexOf('<', at)) {
    const tag = scanTag(text, at, what);
    at = tag.end;
    depth += tag.depthChange;
    nodes += tag.nodes;
    if (depth > XML_DEPTH_MAX) throw refuse(what, `its elements are nested more than ${XML_DEPTH_MAX} deep`);
    if (nodes > XML_NODES_MAX) throw refuse(what, `it has more than ${XML_NODES_MAX} nodes`);
  }
}

type Tag = { end: number; depthChange: number; nodes: number };

/** The markup at `at`. Every node is counted with the text that may follow it. */
function scanTag(text: string, at: number, what: string): Tag {
  for (const [begin, close] of OPAQUE) {
    if (!text.startsWith(begin, at)) continue;
    const end = text.indexOf(close, at + begin.length);
    if (end < 0) throw refuse(what, `${begin} is not closed`);
    return { end: end + close.length, depthChange: begin === '</' ? -1 : 0, nodes: 2 };
  }
  if (text.startsWith('<!', at)) throw refuse(what, 'it has a document type or entity declaration');
  return scanStart(text, at, what);
}

/** A start tag: `>` ends it, but not one inside an attribute's quotes. */
function scanStart(text: string, at: number, what: string): Tag {
  let nodes = 2;
  for (let i = at + 1; i < text.length; i++) {
    const character = text[i];
    if (character === '>') return { end: i + 1, depthChange: text[i - 1] === '/' ? 0 : 1, nodes };
    if (character === '<') break;
    if (character !== '"' && character !== "'") continue;
    nodes++;
    i = text.indexOf(character, i + 1);
    if (i < 0) break;
  }
  throw refuse(what, 'a tag is not closed');
}

export function refuse(what: string, why: string, cause?: unknown): Failure {
  return new Failure('usage_invalid', `read ${what} as XML: ${why}`, { cause });
}
