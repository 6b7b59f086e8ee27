/**
 * TypeScript types of the API, made from its OpenAPI document: one entry for each call, by method and path, with its
 * query, body and reply.
 *
 * The document has no references and few keywords, since all of it comes from our own schemas. A keyword that is not
 * known here is refused, so that the types never say less or other than the document without anybody noticing.
 */
import assert from 'node:assert/strict';

type Schema = {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: Schema[];
  items?: Schema;
  properties?: Record<string, Schema>;
  patternProperties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  [keyword: string]: unknown;
};
type Parameter = { name: string; in: string; required?: boolean; schema: Schema };
type Operation = {
  summary?: string;
  security?: Record<string, unknown>[];
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: Schema }> };
  responses?: Record<string, { content?: Record<string, { schema: Schema }> }>;
};
export type OpenApiDocument = { paths: Record<string, Record<string, Operation>> };

/** What bounds a value without changing its type in TypeScript. */
const BOUNDS = new Set(
  `minLength maxLength pattern minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems uniqueItems
   minProperties maxProperties default description title format examples`
    .split(/\s+/)
    .filter(Boolean),
);
const SHAPES = new Set([
  'type',
  'const',
  'enum',
  'anyOf',
  'items',
  'properties',
  'patternProperties',
  'required',
  'additionalProperties',
]);

/** The text of the types; calls of programs and other sites are left out. */
export function apiTypes(document: OpenApiDocument): string {
  const calls = Object.entries(document.paths)
    .filter(([path]) => path.startsWith('/api/'))
    .flatMap(([path, operations]) =>
      Object.entries(operations).map(([method, operation]) =>
        callType(`${method.toUpperCase()} ${path}`, operation),
      ),
    );
  return [
    '/** Made from the OpenAPI document by tools/api-types.ts: change the schemas in src/api instead. */',
    'export type Api = {',
    ...calls,
    '};',
    '',
  ].join('\n');
}

function callType(name: string, operation: Operation): string {
  const parameters = operation.parameters ?? [];
  const query = parameters.filter((one) => one.in === 'query');
  const fields = query.map((one) => field(one.name, one.schema, one.required === true));
  const body = operation.requestBody?.content['application/json']?.schema;
  const reply = operation.responses?.['200']?.content?.['application/json']?.schema;
  return [
    ...(operation.summary === undefined ? [] : [`  /** ${operation.summary.replaceAll('*/', '* /')} */`]),
    `  ${JSON.stringify(name)}: {`,
    `    query: ${query.length === 0 ? 'Record<never, never>' : `{ ${fields.join(' ')} }`};`,
    `    body: ${body === undefined ? 'undefined' : typeOf(body)};`,
    `    reply: ${reply === undefined ? 'unknown' : typeOf(reply)};`,
    '  };',
  ].join('\n');
}

function field(name: string, schema: Schema, isRequired: boolean): string {
  const key = /^[A-Za-z_]\w*$/.test(name) ? name : JSON.stringify(name);
  return isRequired ? `${key}: ${typeOf(schema)};` : `${key}?: ${typeOf(schema)} | undefined;`;
}

function typeOf(schema: Schema): string {
  for (const keyword of Object.keys(schema)) {
    assert(
      SHAPES.has(keyword) || BOUNDS.has(keyword),
      `types of the API: the keyword ${keyword} is not known`,
    );
  }
  if ('const' in schema) return JSON.stringify(schema.const);
  if (schema.enum !== undefined) return union(schema.enum.map((value) => JSON.stringify(value)));
  if (schema.anyOf !== undefined) return union(schema.anyOf.map(typeOf));
  switch (schema.type) {
    case 'string':
    case 'boolean':
    case 'null':
      return schema.type;
    case 'integer':
    case 'number':
      return 'number';
    case 'array':
      return `readonly (${schema.items === undefined ? 'unknown' : typeOf(schema.items)})[]`;
    case 'object':
      return objectType(schema);
    case undefined:
      return 'unknown';
    default:
      assert.fail(`types of the API: the type ${schema.type} is not known`);
  }
}

function union(types: readonly string[]): string {
  return [...new Set(types)].map((type) => (type.startsWith('readonly') ? `(${type})` : type)).join(' | ');
}

function objectType(schema: Schema): string {
  const values = Object.values(schema.patternProperties ?? {});
  const named = Object.entries(schema.properties ?? {});
  const { additionalProperties: more } = schema;
  if (named.length === 0 && values.length > 0) return `{ [name: string]: ${union(values.map(typeOf))} }`;
  if (named.length === 0 && typeof more === 'object') return `{ [name: string]: ${typeOf(more)} }`;
  if (named.length === 0) return more === false ? 'Record<never, never>' : '{ [name: string]: unknown }';
  const required = new Set(schema.required);
  return `{ ${named.map(([name, value]) => field(name, value, required.has(name))).join(' ')} }`;
}
