/** Checks what a caller sent against a route's schemas, and names what is wrong with it. */
import { Compile, type Validator } from 'typebox/compile';
import { Convert } from 'typebox/value';
import type { TSchema } from 'typebox';
import { Failure } from '#/lib/failure.ts';

export class Schemas {
  readonly #validators = new Map<TSchema, Validator>();

  /** Throws usage_invalid. A missing schema takes nothing. */
  check(part: 'params' | 'query' | 'body', schema: TSchema | undefined, value: unknown): unknown {
    if (schema === undefined) return undefined;
    // Everything in an address is text; a body has JSON's types already and none is guessed.
    const converted = part === 'body' ? value : Convert(schema, value);
    const validator = this.#validator(schema);
    if (validator.Check(converted)) return converted;
    const error = validator.Errors(converted)[0];
    const where = `${part}${error?.instancePath ?? ''}`;
    const names: unknown = (error?.params as Record<string, unknown> | undefined)?.['additionalProperties'];
    const extra = Array.isArray(names) ? `: ${names.slice(0, 5).join(', ')}` : '';
    throw new Failure('usage_invalid', `${where} ${error?.message ?? 'is invalid'}${extra}`, {
      hint: 'The address /api of the manager lists what each call takes.',
    });
  }

  #validator(schema: TSchema): Validator {
    const known = this.#validators.get(schema);
    if (known !== undefined) return known;
    const validator = Compile(schema);
    this.#validators.set(schema, validator);
    return validator;
  }
}
