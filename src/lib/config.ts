/**
 * A program's configuration: a JSON file, turned once, at start, into a typed and frozen object.
 *
 * Invariant: an unknown key, a missing one or an unreadable value stops the program and names the key. Keys are
 * snake_case in the file and camelCase in the program.
 */
import { readFile } from 'node:fs/promises';
import { isAbsolute, normalize } from 'node:path';
import { Failure } from './failure.ts';

/** Reads one value; throws a plain text of what it should be. `missing` is what an absent key means. */
export type Setting<T> = { read(value: unknown, where: string): T; missing?: () => T };
type Shape = Record<string, Setting<unknown>>;
export type ConfigOf<S extends Shape> = Readonly<{
  [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
}>;

const FILE_BYTES_MAX = 1024 * 1024;

/** Throws Failure config_invalid. */
export async function readConfig<S extends Shape>(path: string, shape: S): Promise<ConfigOf<S>> {
  let value: unknown;
  try {
    const text = await readFile(path, 'utf8');
    if (text.length > FILE_BYTES_MAX) throw new Error('the file is too long');
    value = JSON.parse(text);
  } catch (error) {
    throw new Failure('config_invalid', `read the configuration ${path}`, {
      cause: error,
      hint: 'Give a JSON object; docs/operate/configuration.md lists its keys.',
    });
  }
  return parseConfig(value, shape, path);
}

/** Throws Failure config_invalid that names the key. */
export function parseConfig<S extends Shape>(value: unknown, shape: S, where: string): ConfigOf<S> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid(where, 'not an object');
  const given = value as Record<string, unknown>;
  const names = new Map(Object.keys(shape).map((name) => [keyOf(name), name]));
  for (const key of Object.keys(given)) {
    if (!names.has(key))
      throw invalid(`${where}: ${key}`, `unknown key; known are ${[...names.keys()].join(', ')}`);
  }
  const config: Record<string, unknown> = {};
  for (const [key, name] of names) {
    const setting = shape[name]!;
    if (Object.hasOwn(given, key)) config[name] = setting.read(given[key], `${where}: ${key}`);
    else if (setting.missing !== undefined) config[name] = setting.missing();
    else throw invalid(`${where}: ${key}`, 'missing');
  }
  return Object.freeze(config) as ConfigOf<S>;
}

/** The same setting, with a value for when the key is absent. */
export function optional<T, D>(setting: Setting<T>, fallback: D): Setting<T | D> {
  return { read: (value, where) => setting.read(value, where), missing: () => fallback };
}

export const text: Setting<string> = {
  read: (value, where) => {
    if (typeof value !== 'string' || value === '' || value.length > 1024) throw invalid(where, 'not a text');
    return value;
  },
};

export const absolutePath: Setting<string> = {
  read: (value, where) => {
    const path = text.read(value, where);
    if (!isAbsolute(path)) throw invalid(where, `not an absolute path: ${path}`);
    return normalize(path);
  },
};

export const port: Setting<number> = {
  read: (value, where) => {
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 65_535) {
      throw invalid(where, 'not a port number');
    }
    return value as number;
  },
};

/** `https://HOST:PORT` and nothing after it. */
export const httpsUrl: Setting<{ host: string; port: number }> = {
  read: (value, where) => {
    const url = URL.parse(text.read(value, where));
    if (url === null || url.protocol !== 'https:' || url.port === '' || url.href !== `${url.origin}/`) {
      throw invalid(where, 'not of the form https://HOST:PORT');
    }
    return Object.freeze({ host: url.hostname.replace(/^\[(.*)\]$/, '$1'), port: Number(url.port) });
  },
};

/** One of a few words. */
export function oneOf<const Word extends string>(...words: Word[]): Setting<Word> {
  return {
    read: (value, where) => {
      const found = words.find((word) => word === value);
      if (found === undefined) throw invalid(where, `not one of ${words.join(', ')}`);
      return found;
    },
  };
}

export function section<S extends Shape>(shape: S): Setting<ConfigOf<S>> {
  return { read: (value, where) => parseConfig(value, shape, where) };
}

function keyOf(name: string): string {
  return name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function invalid(where: string, what: string): Failure {
  return new Failure('config_invalid', `read the configuration ${where}: ${what}`, {
    hint: 'docs/operate/configuration.md lists every key.',
  });
}
