/** Reads what a guest says on its serial port until it says what counts as a sign of life. */
import { failureIn } from '#/lib/failure.ts';
import type { RpcStream } from '#/libvirt/stream.ts';

/** What is kept of the console: enough for a boot's last lines, and for a text that comes in pieces. */
const TAIL_LENGTH_MAX = 16 * 1024;
const LINE_LENGTH_MAX = 80;
const ESCAPE = '\u001b';
/** Terminal control, which firmware and boot loaders write in between. */
const CONTROL = new RegExp(`${ESCAPE}(?:\\[[0-9;?]*[ -/]*[@-~]|[()][A-Z0-9]|[=>78cDEHM])|\\p{Cc}`, 'gu');
/** How lines begin that firmware says before there is a guest: no sign of the guest's life. */
const FIRMWARE_WORDS = [
  'SeaBIOS',
  'iPXE',
  'gPXE',
  'Booting from Hard',
  'Booting from DVD',
  'Booting from Floppy',
  'Booting from ROM',
  'Boot failed',
  'Machine UUID',
  'No bootable',
  'No more',
  'BdsDxe',
  'BDS',
  'UEFI',
  'EFI',
  'Shell>',
  'map:',
  '>>',
  'Press ESC',
  'Press any',
];

/** The wanted text, or with null any whole line that is not the firmware's. */
export class ConsoleWatch {
  readonly #wanted: string | null;
  #tail = '';

  constructor(wanted: string | null) {
    this.#wanted = wanted;
  }

  /** The last that was said. */
  get tail(): string {
    return this.#tail;
  }

  /** Undefined when the console ends, or the signal aborts, before the sign. */
  async read(
    console: Pick<RpcStream, typeof Symbol.asyncIterator | typeof Symbol.asyncDispose>,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    if (signal.aborted) return undefined;
    const decoder = new TextDecoder();
    const stop = (): void => void console[Symbol.asyncDispose]();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for await (const piece of console) {
        const sign = this.take(decoder.decode(piece, { stream: true }));
        if (sign !== undefined) return sign;
      }
    } catch (error) {
      if (failureIn(error)?.code !== 'libvirt_error') throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
    return undefined;
  }

  /** The sign, when the text brought it. */
  take(text: string): string | undefined {
    const said = this.#tail + text;
    this.#tail = said.slice(-TAIL_LENGTH_MAX);
    if (this.#wanted !== null)
      return said.includes(this.#wanted) ? `serial port: ${this.#wanted}` : undefined;
    const lines = said.split('\n').slice(0, -1);
    for (const line of lines) {
      const plain = line.replaceAll(CONTROL, '').trim();
      if (plain !== '' && !isFirmwares(plain)) return `serial port: ${plain.slice(0, LINE_LENGTH_MAX)}`;
    }
    return undefined;
  }
}

function isFirmwares(line: string): boolean {
  return FIRMWARE_WORDS.some((word) => line.toLowerCase().startsWith(word.toLowerCase()));
}
