/**
 * Reads a JSON object that a peer wrote, field by field: every field has a type and a bound, none is left over.
 *
 * Invariant: what comes out has been checked; anything else is a Failure protocol_corrupt that names the field. Pure.
 */
import { Failure } from '#/lib/failure.ts';

const HEX = /^[0-9a-f]*$/;
const ID = /^[0-9a-z][0-9a-z-]{0,63}$/;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
/** Control characters and slashes have no place in a name that may become a path or a line of a log. */
// eslint-disable-next-line no-control-regex -- naming them is the point
const NAME = /^[^/\u0000-\u001f\u007f]+$/;

export class Fields {
  readonly #object: Record<string, unknown>;
  readonly #where: string;
  readonly #left: Set<string>;

  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(where);
    this.#object = value as Record<string, unknown>;
    this.#where = where;
    this.#left = new Set(Object.keys(value));
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#object, key);
  }

  integer(key: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
    const value = this.#take(key);
    if (!Number.isSafeInteger(value)) throw wrong(this.#path(key));
    const number = value as number;
    if (number < min || number > max || Object.is(number, -0)) throw wrong(this.#path(key));
    return number;
  }

  /** Lower-case hex of exactly `bytes` bytes. */
  hex(key: string, bytes: number): string {
    return this.#matching(key, HEX, bytes * 2, bytes * 2);
  }

  id(key: string): string {
    return this.#matching(key, ID, 1, 64);
  }

  uuid(key: string): string {
    return this.#matching(key, UUID, 36, 36);
  }

  name(key: string, lengthMax: number): string {
    return this.#matching(key, NAME, 1, lengthMax);
  }

  /** Any text for people. */
  text(key: string, lengthMax: number): string {
    return this.#matching(key, /^/, 0, lengthMax);
  }

  oneOf<T extends string>(key: string, allowed: readonly T[]): T {
    const value = this.#take(key);
    const found = allowed.find((each) => each === value);
    if (found === undefined) throw wrong(this.#path(key));
    return found;
  }

  object<T>(key: string, read: (fields: Fields) => T): T {
    return Fields.read(this.#take(key), this.#path(key), read);
  }

  list<T>(key: string, countMax: number, read: (fields: Fields) => T): T[] {
    return this.#array(key, countMax).map((each, index) =>
      Fields.read(each, `${this.#path(key)}[${index}]`, read),
    );
  }

  hexList(key: string, countMax: number, bytes: number): string[] {
    return this.#array(key, countMax).map((each) => {
      if (typeof each !== 'string' || each.length !== bytes * 2 || !HEX.test(each))
        throw wrong(this.#path(key));
      return each;
    });
  }

  /** Reads a whole object and refuses what `read` left over. */
  static read<T>(value: unknown, where: string, read: (fields: Fields) => T): T {
    const fields = new Fields(value, where);
    const result = read(fields);
    const [extra] = fields.#left;
    if (extra !== undefined) throw wrong(`${where}: unknown field ${JSON.stringify(extra.slice(0, 64))}`);
    return result;
  }

  #matching(key: string, pattern: RegExp, lengthMin: number, lengthMax: number): string {
    const value = this.#take(key);
    if (typeof value !== 'string' || value.length < lengthMin || value.length > lengthMax) {
      throw wrong(this.#path(key));
    }
    if (!pattern.test(value)) throw wrong(this.#path(key));
    return value;
  }

  #array(key: string, countMax: number): unknown[] {
    const value = this.#take(key);
    if (!Array.isArray(value) || value.length > countMax) throw wrong(this.#path(key));
    return value;
  }

  #take(key: string): unknown {
    if (!Object.hasOwn(this.#object, key)) throw wrong(`${this.#path(key)}: missing`);
    this.#left.delete(key);
    return this.#object[key];
  }

  #path(key: string): string {
    return `${this.#where}.${key}`;
  }
}

function wrong(what: string): Failure {
  return new Failure('protocol_corrupt', `decode message: wrong ${what}`);
}
