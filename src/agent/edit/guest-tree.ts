/**
 * The files of a guest that does not run. Paths are the guest's own and absolute; links in them are followed within the
 * guest and never out of it. What a guest has put there may be of any size and kind, so both are asked for first.
 */
import { Failure } from '#/lib/failure.ts';
import type { Appliance } from './appliance.ts';

/** No network configuration that people write comes near this. */
const FILE_BYTES_MAX = 256 * 1024;
/** Of a directory of such files, and as many as an edit keeps. */
export const NAMES_MAX = 256;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,200}$/;

export type FileKind = 'file' | 'directory' | 'link' | 'other' | 'none';

export interface GuestTree {
  /** Of the last part of the path itself. */
  kind(path: string): Promise<FileKind>;
  /** Throws vm_unsupported when it is no file, is too long or is no text. */
  read(path: string): Promise<string>;
  /** Names of what is in a directory, in order; nothing when there is none. Throws vm_unsupported when too many. */
  list(directory: string): Promise<string[]>;
  /** The whole file at once or not at all, with the labels of `like` and its owner. */
  write(path: string, content: string, about: { mode: number; like: string }): Promise<void>;
  /** With owner, mode, times and labels; directories are made. */
  copy(from: string, to: string): Promise<void>;
  move(from: string, to: string): Promise<void>;
  makeDirectory(path: string): Promise<void>;
  /** With all that is in it; what is not there is no failure. */
  remove(path: string): Promise<void>;
  /** All that was written is on the disk. */
  sync(): Promise<void>;
}

export class MountedTree implements GuestTree {
  readonly #appliance: Appliance;

  /** The guest's root is mounted in the appliance. */
  constructor(appliance: Appliance) {
    this.#appliance = appliance;
  }

  async kind(path: string): Promise<FileKind> {
    return (await this.#about(path)).kind;
  }

  async read(path: string): Promise<string> {
    const { kind, bytes } = await this.#about(path);
    if (kind !== 'file') throw refused(`${path} is ${kind === 'none' ? 'not there' : 'no plain file'}`);
    if (bytes > FILE_BYTES_MAX) throw refused(`${path} has ${bytes} bytes, more than ${FILE_BYTES_MAX}`);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
        await this.#appliance.download(path),
      );
    } catch (error) {
      if (error instanceof Failure) throw error;
      throw refused(`${path} is no text`);
    }
  }

  async list(directory: string): Promise<string[]> {
    if ((await this.#run('is-dir', directory, 'followsymlinks:true')) !== 'true') return [];
    const names = (await this.#run('ls', directory)).split('\n').filter((name) => name !== '');
    if (names.length > NAMES_MAX) throw refused(`${directory} has more than ${NAMES_MAX} files`);
    const odd = names.find((name) => !NAME.test(name) && !name.startsWith('.'));
    if (odd !== undefined) throw refused(`${directory} has a file of the name ${JSON.stringify(odd)}`);
    return names.filter((name) => NAME.test(name)).toSorted();
  }

  async write(path: string, content: string, about: { mode: number; like: string }): Promise<void> {
    const beside = `${path}.antipode`;
    await this.remove(beside);
    await this.#appliance.upload(beside, content);
    await this.#run('copy-attributes', about.like, beside, 'ownership:true');
    // Labels are a file system's that has any; one without refuses them.
    await this.#run('copy-attributes', about.like, beside, 'xattributes:true').catch(ifRefused);
    await this.#run('chmod', `0${about.mode.toString(8)}`, beside);
    await this.move(beside, path);
  }

  async copy(from: string, to: string): Promise<void> {
    await this.makeDirectory(parentOf(to));
    await this.#run('cp-a', from, to);
  }

  async move(from: string, to: string): Promise<void> {
    await this.#run('mv', from, to);
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#run('mkdir-p', path);
  }

  async remove(path: string): Promise<void> {
    await this.#run('rm-rf', path);
  }

  async sync(): Promise<void> {
    await this.#run('sync');
  }

  async #about(path: string): Promise<{ kind: FileKind; bytes: number }> {
    let text: string;
    try {
      text = await this.#run('lstatns', path);
    } catch (error) {
      const isMissing = error instanceof Failure && /: (No such file|Not a directory)/.test(error.message);
      if (isMissing) return { kind: 'none', bytes: 0 };
      throw error;
    }
    const field = (name: string): number => Number(new RegExp(`^st_${name}: (\\d+)$`, 'm').exec(text)?.[1]);
    return { kind: KINDS[field('mode') & 0o170_000] ?? 'other', bytes: field('size') };
  }

  async #run(...words: string[]): Promise<string> {
    return (await this.#appliance.run(...words)).trim();
  }
}

const KINDS: Record<number, FileKind> = { 0o100_000: 'file', 0o40_000: 'directory', 0o120_000: 'link' };

export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf('/')) || '/';
}

/** Nothing is changed in a guest that is refused. */
export function refused(message: string, hint?: string): Failure {
  return new Failure('vm_unsupported', message, hint === undefined ? {} : { hint });
}

function ifRefused(error: unknown): void {
  if (!(error instanceof Failure) || error.code !== 'tool_failed') throw error;
}
