/**
 * The real FileSystem: a directory of this machine.
 *
 * Names cannot leave the root. What the operating system refuses is a Failure with the code that `file-system.ts`
 * promises.
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, rename, rmdir, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { File, FileSystem, OpenMode } from './file-system.ts';
import { NodeFile } from './node-file.ts';
import { checkRelativePath } from './relative-path.ts';
import { asStorage } from './storage-failure.ts';

const { O_RDONLY, O_RDWR, O_CREAT, O_EXCL, O_DIRECTORY } = constants;

const FLAGS: Record<OpenMode, number> = {
  read: O_RDONLY,
  'read-write': O_RDWR,
  create: O_RDWR | O_CREAT,
  'create-new': O_RDWR | O_CREAT | O_EXCL,
};

export class NodeFileSystem implements FileSystem {
  readonly #root: string;

  /** `root` exists. */
  constructor(root: string) {
    this.#root = root;
  }

  open(path: string, mode: OpenMode): Promise<File> {
    return asStorage(`open ${path} (${mode})`, async () => {
      const handle = await open(this.#resolve(path, 'file'), FLAGS[mode], 0o600);
      return new NodeFile(handle, path);
    });
  }

  rename(source: string, target: string): Promise<void> {
    return asStorage(`rename ${source} to ${target}`, () =>
      rename(this.#resolve(source, 'file'), this.#resolve(target, 'file')),
    );
  }

  remove(path: string): Promise<void> {
    return asStorage(`remove ${path}`, () => unlink(this.#resolve(path, 'file')));
  }

  makeDirectory(path: string): Promise<void> {
    return asStorage(`make the directory ${path}`, async () => {
      await mkdir(this.#resolve(path, 'directory'), { recursive: true, mode: 0o700 });
    });
  }

  removeDirectory(path: string): Promise<void> {
    return asStorage(`remove the directory ${path}`, () => rmdir(this.#resolve(path, 'file')));
  }

  list(path: string): Promise<string[]> {
    return asStorage(`list ${path}`, async () =>
      (await readdir(this.#resolve(path, 'directory'))).toSorted(),
    );
  }

  syncDirectory(path: string): Promise<void> {
    return asStorage(`sync the directory ${path}`, async () => {
      await using handle = await open(this.#resolve(path, 'directory'), O_RDONLY | O_DIRECTORY);
      await handle.sync();
    });
  }

  freeBytes(): Promise<number> {
    return asStorage('ask for free space', async () => {
      const { bavail, bsize } = await statfs(this.#root);
      return bavail * bsize;
    });
  }

  #resolve(path: string, what: 'file' | 'directory'): string {
    checkRelativePath(path, what);
    return join(this.#root, path);
  }
}
