/**
 * Whether a value has the shape of a schema, told in words for people: where the schema leaves a choice by `kind`, only
 * the chosen one is talked about. Pure.
 */
import { Errors } from 'typebox/value';
import type { TSchema } from 'typebox';

export type Misshape = { /** A JSON pointer. */ at: string; message: string };

type Shape = TSchema & {
  anyOf?: Shape[];
  const?: unknown;
  items?: Shape;
  properties?: Record<string, Shape>;
  patternProperties?: Record<string, Shape>;
  required?: string[];
};

const MISSHAPES_MAX = 50;

export function misshapes(schema: TSchema, value: unknown): Misshape[] {
  const found: Misshape[] = [];
  look(schema, value, '', found);
  return found;
}

function look(schema: Shape, value: unknown, at: string, found: Misshape[]): void {
  if (found.length >= MISSHAPES_MAX) return;
  const chosen = schema.anyOf === undefined ? undefined : choose(schema.anyOf, value);
  if (chosen !== undefined) {
    if (typeof chosen === 'string') found.push({ at, message: chosen });
    else look(chosen, value, at, found);
  } else if (schema.properties !== undefined && isObject(value)) {
    lookAtObject(schema, value, at, found);
  } else if (schema.patternProperties !== undefined && isObject(value)) {
    lookAtRecord(schema.patternProperties, value, at, found);
  } else if (schema.items !== undefined && Array.isArray(value)) {
    const before = found.length;
    for (const [index, item] of value.entries()) look(schema.items, item, `${at}/${index}`, found);
    if (found.length === before) lookAtWhole(schema, value, at, found);
  } else lookAtWhole(schema, value, at, found);
}

/** Of variants with a `kind` each the one that the value names, or a sentence; undefined for other choices. */
function choose(variants: readonly Shape[], value: unknown): Shape | string | undefined {
  const kinds = variants.map((variant) => variant.properties?.['kind']?.const);
  if (kinds.every((kind) => typeof kind === 'string')) {
    if (!isObject(value)) return 'must be a mapping with a "kind"';
    const index = kinds.indexOf(value['kind'] as string);
    return variants[index] ?? `must have a "kind" of: ${kinds.join(', ')}`;
  }
  const words = variants.map((variant) => variant.const);
  if (words.every((word) => typeof word === 'string') && !words.includes(value as string)) {
    return `must be one of: ${words.join(', ')}`;
  }
  return undefined;
}

function lookAtObject(schema: Shape, value: Record<string, unknown>, at: string, found: Misshape[]): void {
  const properties = schema.properties ?? {};
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(value, name)) found.push({ at, message: `lacks "${name}"` });
  }
  for (const [name, part] of Object.entries(value)) {
    const own = Object.hasOwn(properties, name) ? properties[name] : undefined;
    const place = `${at}/${escaped(name)}`;
    if (own !== undefined) look(own, part, place, found);
    else
      found.push({
        at: place,
        message: `is not known here; known are: ${Object.keys(properties).join(', ')}`,
      });
  }
}

function lookAtRecord(
  patterns: Record<string, Shape>,
  value: Record<string, unknown>,
  at: string,
  found: Misshape[],
): void {
  for (const [name, part] of Object.entries(value)) {
    const own = Object.entries(patterns).find(([pattern]) => new RegExp(pattern).test(name))?.[1];
    const place = `${at}/${escaped(name)}`;
    if (own === undefined) found.push({ at: place, message: 'is no name' });
    else look(own, part, place, found);
  }
}

function lookAtWhole(schema: Shape, value: unknown, at: string, found: Misshape[]): void {
  const messages = Errors(schema, value)
    .filter(({ keyword }) => keyword !== 'anyOf')
    .map(({ message }) => message);
  if (messages.length > 0) found.push({ at, message: [...new Set(messages)].join(', or ') });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function escaped(part: string): string {
  return part.replaceAll('~', '~0').replaceAll('/', '~1');
}
