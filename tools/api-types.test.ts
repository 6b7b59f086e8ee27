import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openApiDocument } from '#/manager/http/openapi-document.ts';
import { ROUTES } from '#/manager/http/routes.ts';
import { TestSite } from '#/manager/site-fixture.ts';
import { apiTypes, type OpenApiDocument } from './api-types.ts';

const one = (schema: Record<string, unknown>): OpenApiDocument => ({
  paths: {
    '/api/v1/x': { get: { responses: { 200: { content: { 'application/json': { schema } } } } } },
    '/peer/v1/y': { get: {} },
  },
});
const typeOf = (schema: Record<string, unknown>): string => /reply: (.*);/.exec(apiTypes(one(schema)))![1]!;

test('each schema becomes the type that it describes', () => {
  const string = { type: 'string', maxLength: 3 };
  assert.equal(typeOf(string), 'string');
  assert.equal(typeOf({ anyOf: [{ type: 'integer' }, { type: 'null' }] }), 'number | null');
  assert.equal(typeOf({ anyOf: [{ const: 'a' }, { const: 'b' }] }), '"a" | "b"');
  assert.equal(typeOf({ type: 'array', items: string }), 'readonly (string)[]');
  assert.equal(
    typeOf({ type: 'object', patternProperties: { '^.*$': string } }),
    '{ [name: string]: string }',
  );
  const object = { type: 'object', properties: { a: string, b: string }, required: ['a'] };
  assert.equal(typeOf(object), '{ a: string; b?: string | undefined; }');
});

test('a keyword that is not known is refused, not left out', () => {
  assert.throws(() => typeOf({ type: 'string', dependentSchemas: {} }), /dependentSchemas is not known/);
});

test('the document that the types are made of is the one that a manager serves', async () => {
  await using site = await TestSite.start('east');
  const served = await site.api('GET', '/openapi.json');
  const made = await openApiDocument(ROUTES);
  assert.equal(apiTypes(made as OpenApiDocument), apiTypes(served as unknown as OpenApiDocument));
  assert.deepEqual(JSON.parse(JSON.stringify(made)), served);
});
