/**
 * Memory that the threads of a pool know by number, so that a view of it goes between them as three numbers.
 *
 * Cloned with every message instead, the memory would be counted as new to each thread each time, a mebibyte at once,
 * and the collector would run all the time for garbage that is none.
 */
import { strict as assert } from 'node:assert';

/** Stands for a view of shared memory in a message. */
type SharedView = { sharedMemory: number; at: number; length: number };

/** Requests and results are plain objects and arrays, no deeper than this. */
const DEPTH_MAX = 4;

export class SharedMemory {
  readonly #buffers = new Map<number, SharedArrayBuffer>();
  readonly #numbers = new Map<ArrayBufferLike, number>();

  add(number: number, buffer: SharedArrayBuffer): void {
    this.#buffers.set(number, buffer);
    this.#numbers.set(buffer, number);
  }

  /** The number it had; undefined when it is not known. */
  remove(buffer: ArrayBufferLike): number | undefined {
    const number = this.#numbers.get(buffer);
    if (number === undefined) return undefined;
    this.#numbers.delete(buffer);
    this.#buffers.delete(number);
    return number;
  }

  removeNumber(number: number): void {
    const buffer = this.#buffers.get(number);
    if (buffer !== undefined) this.remove(buffer);
  }

  /** The value with every view of known memory replaced by what stands for it. */
  pack(value: unknown): unknown {
    return mapped(value, (part) => {
      if (!(part instanceof Uint8Array)) return undefined;
      const sharedMemory = this.#numbers.get(part.buffer);
      if (sharedMemory === undefined) return part;
      return { sharedMemory, at: part.byteOffset, length: part.length };
    });
  }

  /** What `pack` was given, on another thread. */
  unpack(value: unknown): unknown {
    return mapped(value, (part) => {
      if (!isSharedView(part)) return part instanceof Uint8Array ? part : undefined;
      const buffer = this.#buffers.get(part.sharedMemory);
      assert(buffer !== undefined, `shared memory ${part.sharedMemory} is not known here`);
      return new Uint8Array(buffer, part.at, part.length);
    });
  }
}

function isSharedView(value: object): value is SharedView {
  return 'sharedMemory' in value;
}

/** `replace` says what an object becomes; undefined: its parts are looked at. */
function mapped(value: unknown, replace: (part: object) => unknown, depth = 0): unknown {
  if (typeof value !== 'object' || value === null || depth > DEPTH_MAX) return value;
  const replaced = replace(value);
  if (replaced !== undefined) return replaced;
  if (Array.isArray(value)) return value.map((part) => mapped(part, replace, depth + 1));
  const result: Record<string, unknown> = {};
  for (const [key, part] of Object.entries(value)) result[key] = mapped(part, replace, depth + 1);
  return result;
}
