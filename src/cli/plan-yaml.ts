/**
 * A plan's file as text: YAML 1.2, bounded, and with the line of everything in it, so that whatever is wrong is told
 * with its line, whoever finds it.
 */
import {
  Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  stringify,
  type Node,
} from 'yaml';
import type { PlanFile } from '#/api/plan-files.ts';
import { Failure } from '#/lib/failure.ts';

/** A plan of a thousand VMs, each with settings of its own, takes a tenth of this. */
export const FILE_BYTES_MAX = 2 * 1024 * 1024;
/** Anchors save a plan repetition; a file that grows a hundredfold by them is an attack or a mistake. */
const ALIASES_MAX = 100;

export type PlanText = {
  value: unknown;
  /** The line, from 1, of what a JSON pointer points to, or of the nearest thing around it that is there. */
  lineOf: (pointer: string) => number;
};

/** Throws usage_invalid, with file and line. */
export function parsePlanText(text: string, name: string): PlanText {
  if (Buffer.byteLength(text) > FILE_BYTES_MAX) {
    throw new Failure('usage_invalid', `${name} is longer than ${FILE_BYTES_MAX} bytes`, {
      hint: 'A plan of that length is hardly one: split it.',
    });
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, logLevel: 'error' });
  const [error] = document.errors;
  if (error !== undefined) {
    const { line } = lines.linePos(error.pos[0]);
    throw new Failure('usage_invalid', `${name}:${line}: ${error.message}`, {
      hint: 'The file is no YAML as far as that line.',
    });
  }
  return { value: valueOf(document, name), lineOf: (pointer) => lineOf(document, lines, pointer) };
}

export function planText(file: PlanFile): string {
  return stringify(file, { lineWidth: 0, aliasDuplicateObjects: false });
}

function valueOf(document: Document.Parsed, name: string): unknown {
  try {
    return document.toJS({ maxAliasCount: ALIASES_MAX });
  } catch (error) {
    throw new Failure('usage_invalid', `read the aliases of ${name}`, {
      cause: error,
      hint: `Anchors may stand for at most ${ALIASES_MAX} times what they save.`,
    });
  }
}

function lineOf(document: Document.Parsed, lines: LineCounter, pointer: string): number {
  const parts = pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  let node: Node | null | undefined = document.contents;
  let offset = node?.range?.[0] ?? 0;
  for (const part of parts) {
    if (isAlias(node)) node = node.resolve(document);
    const next = childOf(node, part);
    if (next === undefined) break;
    offset = next.offset ?? offset;
    node = next.node;
  }
  return lines.linePos(offset).line;
}

function childOf(
  node: Node | null | undefined,
  part: string,
): { node: Node | null | undefined; offset: number | undefined } | undefined {
  if (isMap<Node, Node | null>(node)) {
    const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === part);
    return pair === undefined ? undefined : { node: pair.value, offset: pair.key.range?.[0] };
  }
  if (!isSeq<Node>(node)) return undefined;
  const item = node.items[Number(part)];
  return item === undefined ? undefined : { node: item, offset: item.range?.[0] };
}
