/** Looks for a text in what a VM has said on its serial port since its start, as libvirt has written it down. */
import { open } from 'node:fs/promises';
import { Failure } from '#/lib/failure.ts';
import type { Domain } from '#/libvirt/domain.ts';
import { attributeOf, childOf, childrenOf, parseXml } from '#/libvirt/xml.ts';

const PIECE_BYTES = 64 * 1024;
/** A guest may say more than anybody reads; libvirt's own log is cut long before. */
const READ_BYTES_MAX = 64 * 2 ** 20;

/** The file that the console of a VM that runs is written to. Throws vm_unsupported when there is none. */
export async function consoleLogOf(domain: Domain): Promise<string> {
  const devices = childOf(parseXml(await domain.getXml(), `the definition of ${domain.name}`), 'devices');
  const terminals =
    devices === undefined ? [] : [...childrenOf(devices, 'serial'), ...childrenOf(devices, 'console')];
  for (const terminal of terminals) {
    const path = attributeOf(childOf(terminal, 'log'), 'file');
    if (path !== undefined) return path;
  }
  throw new Failure('vm_unsupported', `nothing writes down what VM ${domain.name} says on its serial port`, {
    hint: 'Give it a serial port with a log (<log file="..."/>), or probe it otherwise.',
  });
}

/** Reads on from where the last look ended; a file that became shorter is read anew. */
export class ConsoleText {
  readonly #path: string;
  readonly #wanted: Buffer;
  #offset = 0;
  #tail = Buffer.alloc(0);

  constructor(path: string, wanted: string) {
    this.#path = path;
    this.#wanted = Buffer.from(wanted);
  }

  /** Whether the text is in what was said so far. Throws storage_io. */
  async look(signal: AbortSignal): Promise<boolean> {
    try {
      await using file = await open(this.#path);
      if ((await file.stat()).size < this.#offset) {
        this.#offset = 0;
        this.#tail = Buffer.alloc(0);
      }
      const piece = new Uint8Array(PIECE_BYTES);
      for (let read = 0; read < READ_BYTES_MAX;) {
        signal.throwIfAborted();
        const { bytesRead } = await file.read(piece, 0, piece.length, this.#offset);
        if (bytesRead === 0) return false;
        read += bytesRead;
        this.#offset += bytesRead;
        const said = Buffer.concat([this.#tail, piece.subarray(0, bytesRead)]);
        if (said.includes(this.#wanted)) return true;
        this.#tail = Buffer.from(said.subarray(Math.max(0, said.length - this.#wanted.length + 1)));
      }
      return false;
    } catch (cause) {
      signal.throwIfAborted();
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw new Failure('storage_io', `read what a guest said from ${this.#path}`, { cause });
    }
  }

  /** The last that was said, for people. */
  get end(): string {
    return this.#tail.toString('utf8').slice(-200).trim();
  }
}
